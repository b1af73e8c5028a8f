package cache_test

import (
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"millrace/edge/edgetest"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

// A stream of events is never stored under a freshness that the origin hasn't named: nobody wants the events of
// another's connection again.
func TestEventStreamsAreNotStoredUnderTheRoutesTTL(t *testing.T) {
	for name, change := range map[string]func(*node.Cache){
		"ttl":        func(c *node.Cache) { c.TTL = minute },
		"force":      func(c *node.Cache) { c.TTL, c.Force = minute, true },
		"heuristics": nil,
	} {
		r := edgetest.Start(t, edgetest.Cached(change))
		for i, kind := range []string{
			"text/event-stream", "Text/Event-Stream; charset=utf-8", "multipart/x-mixed-replace; boundary=x",
			"multipart/x-mixed-replace",
		} {
			for j, f := range []edgetest.Answer{
				edgetest.Always(200, "data: %d\n\n", "Content-Type", kind,
					"Last-Modified", edgetest.HTTPDate(10*time.Hour)),
				edgetest.Streamed("data: 1\n\n", -1, "Content-Type", kind,
					"Last-Modified", edgetest.HTTPDate(10*time.Hour)),
			} {
				path := "/" + strconv.Itoa(i) + strconv.Itoa(j)
				r.On(path, f)
				first := r.Get(t, path)
				if s := r.Get(t, path); s.Hit || first.Stored || first.Detail != "endless" {
					t.Errorf("%s, %s: %s, then %s", name, kind, first, s)
				}
			}
		}
		if change == nil {
			continue
		}
		r.On("/text", edgetest.Always(200, "%d", "Content-Type", "text/event-streams"))
		r.Get(t, "/text")
		r.Get(t, "/text").WantHit(t, "another type", "1")
	}
}

// Streams that go on for long don't take the room in which other responses are collected.
func TestLongStreamsTakeNoRoom(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil)) // 16 MiB of room, which one object may have as well
	for i := range 4 {
		body := edgetest.NewPacedBody()
		path := "/feed" + strconv.Itoa(i)
		r.On(path, edgetest.Streams(body, -1, "Cache-Control", "max-age=600"))
		x := r.OpenBody(t, path)
		body.Pieces <- "event"
		x.Want("event")
	}
	const n = 1 << 20
	r.On("/a", edgetest.Streamed(edgetest.Text(n), n, "Cache-Control", "max-age=600"))
	if s := r.Get(t, "/a"); !s.Stored {
		t.Errorf("beside streams: %s", s)
	}
	nodetest.Eventually(t, "it is stored", func() bool { return r.Get(t, "/a").Hit })
}

// Clients that read slowly don't take the room in which the responses for others are collected: what grows at their
// pace gives way.
func TestSlowReadersTakeNoRoom(t *testing.T) {
	const n, piece = 1 << 20, 4 << 20
	r := edgetest.Start(t, edgetest.Cached(nil)) // 16 MiB of room
	bodies, readers := make([]*edgetest.PacedBody, 5), make([]*edgetest.BodyReader, 5)
	for i := range bodies {
		bodies[i] = edgetest.NewPacedBody()
		path := "/slow" + strconv.Itoa(i)
		body := mesh.NewBody(struct {
			io.Reader
			io.Closer
		}{io.MultiReader(strings.NewReader(edgetest.Text(piece)), bodies[i]), bodies[i]})
		r.On(path, func(*mesh.Request, int) *mesh.Response {
			return &mesh.Response{
				Status: 200,
				Header: edgetest.Fields("Cache-Control", "max-age=600"),
				Stream: body,
				Length: -1,
			}
		})
		readers[i] = r.OpenBody(t, path)
		readers[i].Want(edgetest.Text(piece))
	}
	r.On("/a", edgetest.Streamed(edgetest.Text(n), n, "Cache-Control", "max-age=600"))
	i := 0
	nodetest.Eventually(t, "others are stored", func() bool {
		i++
		return r.Get(t, "/a?"+strconv.Itoa(i)).Stored
	})
	nodetest.Eventually(t, "and found", func() bool { return r.Get(t, "/a?"+strconv.Itoa(i)).Hit })
	for i, b := range bodies { // they get theirs to its end all the same
		b.Pieces <- "end"
		readers[i].Want("end")
		close(b.Pieces)
		readers[i].WantEnd()
	}
}

// Nor do those who read what is stored while chunks of it are brought back.
func TestSlowReadersOfLostChunksTakeNoRoom(t *testing.T) {
	const n = 14 << 20 // more than sockets take
	// 16 MiB of room to collect. The memory may be so large that each of its parts has room for what all readers of one
	// chunk hold of it, since each has a copy of its own: else these drive out what lies beside them.
	r := edgetest.Start(t, edgetest.Cached(nil, func(s *edgetest.Config) {
		s.Cache.Store = func(c *node.CacheStore) { c.Memory, c.Disk = 4096*node.MiB, 512*node.KiB }
	}))
	o := edgetest.InChunks(n, "ETag", `"1"`)
	r.On("/a", o.Answer)
	r.On("/b", edgetest.Streamed(edgetest.Text(1<<20), 1<<20, "Cache-Control", "max-age=600"))
	r.StoreLarge(t, "/a")
	for range 20 {
		r.Lose(t, "/a", 46, 47, 48, 49, 50)
		r.OpenBody(t, "/a")
	}
	if s := r.Get(t, "/b"); !s.Stored {
		t.Errorf("beside them: %s", s)
	}
}
