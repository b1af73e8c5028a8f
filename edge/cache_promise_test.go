package edge_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"millrace/edge/cache"
	"millrace/embedded/natsserver"
	"millrace/kvcache"
	"millrace/kvcache/httpcache"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

const chunk = 256 << 10

// inChunks is an origin with a body of n bytes and such validators, of which it answers ranges.
func inChunks(n int, validator ...string) *representation {
	header := append([]string{"Cache-Control", "max-age=600"}, validator...)
	return &representation{body: text(n), header: header, streams: true}
}

// noBucket makes the bucket too small for anything in chunks: they may have a quarter of it.
func noBucket(s *cacheSetup) { s.store.Disk = 512 * node.KiB }

// recordOf gives what the memory has of a path.
func (r *cacheRig) recordOf(tb testing.TB, path string) httpcache.Record {
	tb.Helper()
	var v kvcache.View
	var rec httpcache.Record
	if !r.cache.Get([]byte("Ghttp://example.test"+path), &v) || rec.Decode(v.Value) != nil {
		tb.Fatalf("there is no record of %s", path)
	}
	v.Release()
	return rec
}

// lose takes chunks of a path out of the memory.
func (r *cacheRig) lose(tb testing.TB, path string, chunks ...uint32) {
	tb.Helper()
	rec := r.recordOf(tb, path)
	if rec.Chunks == 0 {
		tb.Fatalf("%s isn't in chunks: %+v", path, rec)
	}
	for _, n := range chunks {
		r.cache.Drop(cache.ChunkKey(rec.Nonce, n))
	}
}

// storeLarge asks for a path until it is served from the memory.
func (r *cacheRig) storeLarge(tb testing.TB, path string) {
	tb.Helper()
	nodetest.Eventually(tb, path+" is stored", func() bool { return r.get(tb, path).hit })
}

// When chunks of a stored body have left memory and bucket, nobody sees it break off: what is missing comes from the
// origin, under the same validator and with nothing else, or the whole does where there is no strong validator.
// Afterwards all is there again.
func TestCacheLargeLosesChunks(t *testing.T) {
	const n = 1<<20 + 100
	old := []string{"Last-Modified", "Wed, 01 Jan 2020 00:00:00 GMT"}
	for name, c := range map[string]struct {
		validator []string
		lost      []uint32
		asked     string // what the origin is asked for
	}{
		"the first":              {[]string{"ETag", `"1"`}, []uint32{0}, `bytes=0-262143,"1"`},
		"one in the middle":      {[]string{"ETag", `"1"`}, []uint32{2}, `bytes=524288-786431,"1"`},
		"the last":               {[]string{"ETag", `"1"`}, []uint32{4}, `bytes=1048576-,"1"`},
		"two":                    {[]string{"ETag", `"1"`}, []uint32{1, 3}, `bytes=262144-1048575,"1"`},
		"most":                   {[]string{"ETag", `"1"`}, []uint32{0, 1, 2, 3}, ""},
		"under a date":           {old, []uint32{2}, "bytes=524288-786431," + old[1]},
		"under a weak validator": {[]string{"ETag", `W/"1"`}, []uint32{2}, ""},
		"without a validator":    {nil, []uint32{2}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := startCache(t, nil, noBucket)
			o := inChunks(n, c.validator...)
			var asked questions
			r.on("/a", asked.of(o.answer))
			r.storeLarge(t, "/a")
			r.lose(t, "/a", c.lost...)
			if s := r.get(t, "/a"); s.body != o.body || s.broken != nil || s.StatusCode != 200 {
				t.Errorf("got %s, %v", s, s.broken)
			}
			list := asked.all()
			if len(list) != 2 || list[1] != c.asked {
				t.Errorf("the origin was asked for %q, want %q", list, c.asked)
			}
			r.storeLarge(t, "/a")
			for range 2 {
				r.get(t, "/a").wantHit(t, "afterwards", o.body)
			}
			if got := len(asked.all()); got != 2 {
				t.Errorf("the origin was asked %d times", got)
			}
		})
	}
}

// The same for each kind of request, and each way in which a body is read.
func TestCacheLargeLosesChunksOfRanges(t *testing.T) {
	const n = 1 << 20
	for name, validator := range map[string][]string{"strong": {"ETag", `"1"`}, "none": nil} {
		r := startCache(t, nil, noBucket)
		o := inChunks(n, validator...)
		r.on("/a", o.answer)
		for _, c := range []struct {
			value string
			lost  uint32
			body  string // "" for a multipart
		}{
			{"bytes=0-9", 0, o.body[:10]},
			{"bytes=300000-900000", 2, o.body[300000:900001]},
			{"bytes=-10", 3, o.body[n-10:]},
			{"bytes=0-0,600000-600009", 2, ""},
		} {
			r.storeLarge(t, "/a")
			r.lose(t, "/a", c.lost)
			s := r.get(t, "/a", "Range", c.value)
			right := s.StatusCode == 200 && s.body == o.body // of an origin that knows single ranges only
			if s.StatusCode == 206 {
				right = s.body == c.body || c.body == "" && strings.Contains(s.body, o.body[600000:600010])
			}
			if !right || s.broken != nil {
				t.Errorf("%s, %s: %s, %v", name, c.value, s, s.broken)
			}
			if s := r.get(t, "/a"); s.body != o.body || s.broken != nil {
				t.Errorf("%s, after %s: %s, %v", name, c.value, s, s.broken)
			}
		}
		r.storeLarge(t, "/a")
		r.lose(t, "/a", 1)
		if s := r.ask(t, "HEAD", "/a", ""); s.StatusCode != 200 || s.ContentLength != n {
			t.Errorf("%s, HEAD: %s", name, s)
		}
	}
}

// An origin that knows no ranges gives all of it again, of which the beginning isn't sent twice.
func TestCacheLargeLosesChunkWithoutRanges(t *testing.T) {
	r := startCache(t, nil, noBucket)
	const n = 1 << 20
	r.on("/a", streamed(text(n), n, "Cache-Control", "max-age=600", "ETag", `"1"`))
	r.storeLarge(t, "/a")
	r.lose(t, "/a", 2)
	if s := r.get(t, "/a"); s.body != text(n) || s.broken != nil {
		t.Errorf("got %s, %v", s, s.broken)
	}
}

// An origin that has changed meanwhile: nobody gets bytes of two representations, and who comes before anything is sent
// gets the new one whole.
func TestCacheLargeLosesChunkOfChanged(t *testing.T) {
	r := startCache(t, nil, noBucket)
	const n = 1 << 20
	before, after := inChunks(n, "ETag", `"1"`), inChunks(n, "ETag", `"2"`)
	after.body = strings.ToUpper(strings.ReplaceAll(after.body, ",", "x"))
	r.on("/a", before.answer)
	r.storeLarge(t, "/a")
	r.lose(t, "/a", 2)
	r.on("/a", after.answer)
	if s := r.get(t, "/a"); s.body != after.body || s.broken != nil || s.Header.Get("ETag") != `"2"` {
		t.Errorf("got %s, %v", s, s.broken)
	}
	r.storeLarge(t, "/a")
	r.get(t, "/a").wantHit(t, "afterwards", after.body)
}

// Many at once want what has been lost: the origin isn't asked by each of them.
func TestCacheLargeLosesChunksForMany(t *testing.T) {
	r := startCache(t, nil, noBucket)
	o := inChunks(1 << 20)
	r.on("/a", o.answer)
	r.storeLarge(t, "/a")
	r.lose(t, "/a", 1, 2)
	for _, s := range r.crowd(t, 40, "/a", nil) {
		if s.body != o.body || s.broken != nil {
			t.Errorf("got %s, %v", s, s.broken)
		}
	}
	if n := r.count("/a"); n > 4 {
		t.Errorf("the origin was asked %d times", n-1)
	}
}

// A body that the origin breaks off goes on where it broke, under a strong validator: those who follow it see it whole.
func TestCacheLargeResumes(t *testing.T) {
	const n = 1 << 20
	for name, validator := range map[string][]string{"strong": {"ETag", `"1"`}, "weak": {"ETag", `W/"1"`}} {
		r := startCache(t, nil)
		o := inChunks(n, validator...)
		var asked questions
		r.on("/a", asked.of(func(req *mesh.Request, n int) *mesh.Response {
			resp := o.answer(req, n)
			if n <= 2 { // half of what is left
				half := io.LimitReader(mesh.NewReader(resp.Stream), resp.Length/2)
				resp.Stream = mesh.NewBody(io.MultiReader(half, broken{}))
			}
			return resp
		}))
		s := r.get(t, "/a")
		if whole := s.body == o.body && s.broken == nil; whole != (name == "strong") || (!whole && s.broken == nil) {
			t.Errorf("%s: %s, %v", name, s, s.broken)
		}
		if list := asked.all(); name == "strong" &&
			!slices.Equal(list, []string{"", `bytes=524288-,"1"`, `bytes=786432-,"1"`}) {
			t.Errorf("%s: the origin was asked for %q", name, list)
		}
		r.storeLarge(t, "/a")
		r.get(t, "/a").wantHit(t, name, o.body)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// slowServer gives connections whose answers take a while.
type slowServer struct {
	*natsserver.Server

	delay atomic.Int64 // of what the server sends
}

func (s *slowServer) InProcessConn() (net.Conn, error) {
	c, err := s.Server.InProcessConn()
	return &slowConn{c, s}, err
}

type slowConn struct {
	net.Conn

	s *slowServer
}

func (c *slowConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if d := time.Duration(c.s.delay.Load()); d > 0 {
		<-time.After(d) // this is what a slow network does
	}
	return n, err
}

// A bucket that takes longer for a chunk than anybody would wait for a response isn't one without it.
func TestCacheLargeFromSlowBucket(t *testing.T) {
	for name, validator := range map[string][]string{"strong": {"ETag", `"1"`}, "none": nil} {
		slow := &slowServer{}
		r := startCache(t, nil, func(s *cacheSetup) { s.slow = slow })
		o := inChunks(3<<20, validator...)
		r.on("/a", o.answer)
		r.storeLarge(t, "/a")
		nodetest.Eventually(t, "the bucket has it", func() bool {
			return r.recordOf(t, "/a").Stored.Flags.Has(httpcache.InBucket)
		})
		for round := range 2 {
			r.lose(t, "/a", 3, 4, 7)
			slow.delay.Store(int64(kvcache.Patience * 3 / 2))
			if s := r.get(t, "/a"); s.body != o.body || s.broken != nil || !s.hit {
				t.Errorf("%s, round %d: %s, %v", name, round, s, s.broken)
			}
			slow.delay.Store(0)
		}
		if n := r.count("/a"); n != 1 && validator == nil { // under a strong validator the origin may be quicker
			t.Errorf("%s: the origin was asked %d times", name, n)
		}
	}
}

// A client that goes away while chunks are being brought says nothing of the response, which stays stored.
func TestCacheLargeClientGoesAwayWhileItIsBrought(t *testing.T) {
	r := startCache(t, nil)
	o := inChunks(16*chunk, "ETag", `"1"`)
	r.on("/a", o.answer)
	r.storeLarge(t, "/a")
	nodetest.Eventually(t, "the bucket has it", func() bool {
		return r.recordOf(t, "/a").Stored.Flags.Has(httpcache.InBucket)
	})
	nonce := r.recordOf(t, "/a").Nonce
	for range 10 {
		r.lose(t, "/a", 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
		x := r.open(t, "/a")
		x.want(o.body[:1000])
		_ = x.conn.Close()
		nodetest.Eventually(t, "the connection is gone", func() bool { return r.Connections() == 0 })
	}
	r.get(t, "/a").wantHit(t, "afterwards", o.body)
	if rec := r.recordOf(t, "/a"); rec.Nonce != nonce || r.count("/a") != 1 {
		t.Errorf("it was fetched anew: the origin was asked %d times", r.count("/a"))
	}
}

// Where there is no room to bring all of a response together, it is passed on from the origin, and stays stored.
func TestCacheLargeNoRoom(t *testing.T) {
	r := startCache(t, nil)
	o := inChunks(3 << 20)
	r.on("/a", o.answer)
	r.storeLarge(t, "/a")
	nodetest.Eventually(t, "the bucket has it", func() bool {
		return r.recordOf(t, "/a").Stored.Flags.Has(httpcache.InBucket)
	})
	r.lose(t, "/a", 1, 2)
	free := r.TakeRoom()
	if s := r.get(t, "/a"); s.body != o.body || s.broken != nil || s.hit {
		t.Errorf("without room: %s, %v", s, s.broken)
	}
	free()
	before := r.count("/a")
	if s := r.get(t, "/a"); s.body != o.body || !s.hit || r.count("/a") != before {
		t.Errorf("with room: %s", s)
	}
}

// While a slow client reads, the bucket loses what it hasn't yet: the rest comes from the origin, or is at hand
// already.
func TestCacheLargeLosesBucketWhileItIsRead(t *testing.T) {
	const n = 12 * chunk
	for name, validator := range map[string][]string{"strong": {"ETag", `"1"`}, "none": nil} {
		r := startCache(t, nil)
		o := inChunks(n, validator...)
		r.on("/a", o.answer)
		r.storeLarge(t, "/a")
		nodetest.Eventually(t, "the bucket has it", func() bool {
			return r.recordOf(t, "/a").Stored.Flags.Has(httpcache.InBucket)
		})
		r.lose(t, "/a", 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
		x := r.open(t, "/a")
		x.want(o.body[:1000])
		r.emptyBucket(t)
		x.want(o.body[1000:])
		x.wantEnd()
		if got := r.count("/a"); got > 2 || (validator == nil && got > 1) {
			t.Errorf("%s: the origin was asked %d times", name, got)
		}
	}
}

// emptyBucket takes everything out of the bucket, behind the cache's back.
func (r *cacheRig) emptyBucket(tb testing.TB) {
	tb.Helper()
	js, err := jetstream.New(r.conn.NATS())
	if err != nil {
		tb.Fatal(err)
	}
	stream, err := js.Stream(tb.Context(), "KV_millrace-cache")
	if err == nil {
		err = stream.Purge(tb.Context())
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// A bucket that is nearly full takes all of a large response or nothing, so that no node finds a record whose chunks
// were left out.
func TestCacheLargeBucketIsFull(t *testing.T) {
	r := startCache(t, nil, func(s *cacheSetup) { s.store.Disk = 8 * node.MiB })
	nodetest.Eventually(t, "the bucket is there", func() bool { return r.cache.Stats().BucketReady })
	const size = 1 << 20
	bodies := map[string]string{}
	for i := range 12 {
		path := "/" + strconv.Itoa(i)
		o := inChunks(size)
		o.body = strconv.Itoa(i) + o.body
		bodies[path] = o.body
		r.on(path, o.answer)
		r.storeLarge(t, path)
	}
	r.restart(t, 30) // six of them, with their records
	hits := 0
	for path, body := range bodies {
		s := r.get(t, path)
		if s.body != body || s.broken != nil {
			t.Errorf("%s: %s, %v", path, s, s.broken)
		}
		if s.hit {
			hits++
		}
	}
	t.Logf("%d of %d come from the bucket", hits, len(bodies))
	if hits < 4 {
		t.Errorf("only %d come from the bucket", hits)
	}
}

// A large response that a 304 has confirmed tells the bucket of nothing that isn't there.
func TestCacheLargeConfirmedIsNotPromised(t *testing.T) {
	r := startCache(t, nil, func(s *cacheSetup) { s.store.Disk = node.MiB }) // a quarter of which is too little
	nodetest.Eventually(t, "the bucket is there", func() bool { return r.cache.Stats().BucketReady })
	o := inChunks(600_000, "ETag", `"1"`)
	r.on("/a", func(req *mesh.Request, n int) *mesh.Response {
		resp := o.answer(req, n)
		if n == 1 {
			resp.Header.Add("Age", "700")
		}
		return resp
	})
	r.get(t, "/a")
	nodetest.Eventually(t, "it is stored", func() bool { return r.has("/a") })
	if s := r.get(t, "/a"); s.status != 304 || s.body != o.body {
		t.Errorf("validated: %s", s)
	}
	r.onlyInBucketNow(t, "/b")
	if r.loads(t, "/a") {
		t.Error("the bucket has a record whose body nobody has")
	}
}

// onlyInBucketNow waits until what was to be written has been.
func (r *cacheRig) onlyInBucketNow(tb testing.TB, path string) {
	tb.Helper()
	r.on(path, fresh("small"))
	r.onlyInBucket(tb, path)
}

// loads reports whether the bucket has a record of the path.
func (r *cacheRig) loads(tb testing.TB, path string) bool {
	tb.Helper()
	key := []byte("Ghttp://example.test" + path)
	r.cache.Drop(key)
	var v kvcache.View
	has, err := r.cache.Read(tb.Context(), key, &v)
	if err != nil {
		tb.Fatal(err)
	}
	v.Release()
	return has
}

// Many large responses in a memory and a bucket that are both too small, asked for by many clients: none of them is
// cut.
func TestCacheLargeSoak(t *testing.T) {
	const objects, clients, rounds = 24, 8, 12
	r := startCache(t, nil, func(s *cacheSetup) { s.store.Memory, s.store.Disk = 16*node.MiB, 16*node.MiB })
	bodies := make([]*representation, objects)
	for i := range objects {
		o := inChunks(300_000 + i*100_000)
		o.body = strconv.Itoa(i) + "!" + o.body
		switch i % 3 {
		case 0:
			o.header = append(o.header, "ETag", `"`+strconv.Itoa(i)+`"`)
		case 1:
			o.header = append(o.header, "ETag", `W/"1"`)
		}
		bodies[i] = o
		r.on("/"+strconv.Itoa(i), o.answer)
	}
	var cut, hits atomic.Int64
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for n := range rounds * 6 {
				i := (c*5 + n/6*7 + (n%6)*(n%6)) % objects
				body, hit, err := r.fetchBody(t, "/"+strconv.Itoa(i))
				if hit {
					hits.Add(1)
				}
				if err != nil || body != bodies[i].body {
					cut.Add(1)
					t.Errorf("object %d: %d bytes of %d, a hit: %t, %v", i, len(body), len(bodies[i].body), hit, err)
				}
			}
		})
	}
	wg.Wait()
	stats := r.cache.Stats()
	t.Logf("%d responses, %d hits, %d cut; %d chunks evicted, %d skipped by the bucket",
		clients*rounds*6, hits.Load(), cut.Load(), stats.Evicted, stats.BucketSkipped)
}

// fetchBody asks without the checks of get, which ends the test from its own goroutine only.
func (r *cacheRig) fetchBody(tb testing.TB, path string) (body string, hit bool, err error) {
	tb.Helper()
	conn, err := (&net.Dialer{}).DialContext(tb.Context(), "tcp", r.addr)
	if err != nil {
		return "", false, fmt.Errorf("dial: %w", err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(conn, requestOf("GET", path, nil)); err != nil {
		return "", false, fmt.Errorf("ask: %w", err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return "", false, fmt.Errorf("read the head: %w", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), strings.Contains(resp.Header.Get("Cache-Status"), "; hit"), err
}
