package edge_test

import (
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

// A stream of events is never stored under a freshness that the origin hasn't named: nobody wants the events of
// another's connection again.
func TestCacheEndlessEventStreams(t *testing.T) {
	for name, change := range map[string]func(*node.Cache){
		"ttl":        func(c *node.Cache) { c.TTL = minute },
		"force":      func(c *node.Cache) { c.TTL, c.Force = minute, true },
		"heuristics": nil,
	} {
		r := startCache(t, change)
		for i, kind := range []string{
			"text/event-stream", "Text/Event-Stream; charset=utf-8", "multipart/x-mixed-replace; boundary=x",
			"multipart/x-mixed-replace",
		} {
			for j, f := range []answer{
				always(200, "data: %d\n\n", "Content-Type", kind, "Last-Modified", httpDate(10*time.Hour)),
				streamed("data: 1\n\n", -1, "Content-Type", kind, "Last-Modified", httpDate(10*time.Hour)),
			} {
				path := "/" + strconv.Itoa(i) + strconv.Itoa(j)
				r.on(path, f)
				first := r.get(t, path)
				if s := r.get(t, path); s.hit || first.stored || first.detail != "endless" {
					t.Errorf("%s, %s: %s, then %s", name, kind, first, s)
				}
			}
		}
		if change == nil {
			continue
		}
		r.on("/text", always(200, "%d", "Content-Type", "text/event-streams"))
		r.get(t, "/text")
		r.get(t, "/text").wantHit(t, "another type", "1")
	}
}

// A body of unknown length under a freshness that only the route names is stored if it ends soon, as pages do, and not
// if it keeps coming.
func TestCacheEndlessUnknownLength(t *testing.T) {
	r := startCache(t, func(c *node.Cache) { c.TTL = minute })
	r.on("/page", streamed("page", -1))
	r.get(t, "/page")
	nodetest.Eventually(t, "a page is stored", func() bool { return r.ask(t, "HEAD", "/page", "").hit })
	r = startCache(t, func(c *node.Cache) { c.TTL = minute })
	r.SetEndsWithin(-1) // nothing does
	for path, control := range map[string]string{"/feed": "x", "/said": "max-age=600"} {
		body := newSlowly()
		r.on(path, streams(body, -1, "Cache-Control", control))
		x := r.open(t, path)
		body.pieces <- "one"
		x.want("one")
		body.pieces <- "two"
		x.want("two")
		close(body.pieces)
		x.wantEnd()
	}
	nodetest.Eventually(t, "what the origin speaks for is stored", func() bool { return r.has("/said") })
	r.get(t, "/said").wantHit(t, "named by the origin", "onetwo")
	r.on("/feed", always(200, "%d", "Cache-Control", "no-store"))
	if s := r.get(t, "/feed"); s.hit {
		t.Errorf("a feed is replayed: %s", s)
	}
}

// Streams that go on for long don't take the room in which other responses are collected.
func TestCacheEndlessTakesNoRoom(t *testing.T) {
	r := startCache(t, nil) // 16 MiB of room, which one object may have as well
	for i := range 4 {
		body := newSlowly()
		path := "/feed" + strconv.Itoa(i)
		r.on(path, streams(body, -1, "Cache-Control", "max-age=600"))
		x := r.open(t, path)
		body.pieces <- "event"
		x.want("event")
	}
	const n = 1 << 20
	r.on("/a", streamed(text(n), n, "Cache-Control", "max-age=600"))
	if s := r.get(t, "/a"); !s.stored {
		t.Errorf("beside streams: %s", s)
	}
	nodetest.Eventually(t, "it is stored", func() bool { return r.get(t, "/a").hit })
}

// A fetch that nobody waits for ends as soon as its response turns out to be one that isn't stored.
func TestCacheEndlessRefresh(t *testing.T) {
	r := startCache(t, func(c *node.Cache) { c.TTL = minute })
	r.SetEndsWithin(-1) // nothing does
	for path, control := range map[string]string{"/private": "private", "/feed": ""} {
		body := newSlowly()
		next := streams(body, -1)
		if control != "" {
			next = streams(body, -1, "Cache-Control", control)
		}
		old := always(200, "old", "Cache-Control", "max-age=10, stale-while-revalidate=600", "Age", "20")
		r.on(path, inTurn(old, next))
		r.get(t, path)
		r.get(t, path).wantHit(t, path, "old")
		for ended := false; !ended; { // it sends as long as somebody reads
			select {
			case body.pieces <- strings.Repeat("x", 100):
			case <-body.gone:
				ended = true
			case <-time.After(10 * time.Second):
				t.Fatalf("%s: the stream is still read", path)
			}
		}
	}
}

// Clients that read slowly don't take the room in which the responses for others are collected: what grows at their
// pace gives way.
func TestCacheSlowReadersTakeNoRoom(t *testing.T) {
	const n, piece = 1 << 20, 4 << 20
	r := startCache(t, nil) // 16 MiB of room
	bodies, readers := make([]*slowly, 5), make([]*reader, 5)
	for i := range bodies {
		bodies[i] = newSlowly()
		path := "/slow" + strconv.Itoa(i)
		body := mesh.NewBody(struct {
			io.Reader
			io.Closer
		}{io.MultiReader(strings.NewReader(text(piece)), bodies[i]), bodies[i]})
		r.on(path, func(*mesh.Request, int) *mesh.Response {
			return &mesh.Response{Status: 200, Header: fields("Cache-Control", "max-age=600"), Stream: body, Length: -1}
		})
		readers[i] = r.open(t, path)
		readers[i].want(text(piece))
	}
	r.on("/a", streamed(text(n), n, "Cache-Control", "max-age=600"))
	i := 0
	nodetest.Eventually(t, "others are stored", func() bool {
		i++
		return r.get(t, "/a?"+strconv.Itoa(i)).stored
	})
	nodetest.Eventually(t, "and found", func() bool { return r.get(t, "/a?"+strconv.Itoa(i)).hit })
	for i, b := range bodies { // they get theirs to its end all the same
		b.pieces <- "end"
		readers[i].want("end")
		close(b.pieces)
		readers[i].wantEnd()
	}
}

// Nor do those who read what is stored while chunks of it are brought back.
func TestCacheSlowReadersOfLostChunksTakeNoRoom(t *testing.T) {
	const n = 14 << 20 // more than sockets take
	// 16 MiB of room to collect. The memory may be so large that each of its parts has room for what all readers of one
	// chunk hold of it, since each has a copy of its own: else these drive out what lies beside them.
	r := startCache(t, nil, noBucket, func(s *cacheSetup) { s.store.Memory = 4096 * node.MiB })
	o := inChunks(n, "ETag", `"1"`)
	r.on("/a", o.answer)
	r.on("/b", streamed(text(1<<20), 1<<20, "Cache-Control", "max-age=600"))
	r.storeLarge(t, "/a")
	for range 20 {
		r.lose(t, "/a", 46, 47, 48, 49, 50)
		r.open(t, "/a")
	}
	if s := r.get(t, "/b"); !s.stored {
		t.Errorf("beside them: %s", s)
	}
}

// What isn't stored for want of room is stored as soon as there is some.
func TestCacheWantOfRoomIsNotKept(t *testing.T) {
	const n = 1 << 20
	r := startCache(t, nil)
	r.on("/a", streamed(text(n), n, "Cache-Control", "max-age=600"))
	free := r.TakeRoom()
	if s := r.get(t, "/a"); s.stored || s.body != text(n) {
		t.Errorf("without room: %s", s)
	}
	free()
	if s := r.get(t, "/a"); !s.stored {
		t.Errorf("with room: %s", s)
	}
}
