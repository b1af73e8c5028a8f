package cache_test

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

	"millrace/edge/edgetest"
	"millrace/kvcache"
	"millrace/kvcache/httpcache"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

// When chunks of a stored body have left memory and bucket, nobody sees it break off: what is missing comes from the
// origin, under the same validator and with nothing else, or the whole does where there is no strong validator.
// Afterwards all is there again.
func TestLostChunksComeFromTheOrigin(t *testing.T) {
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
			r := edgetest.Start(t, edgetest.Cached(nil, edgetest.NoBucket))
			o := edgetest.InChunks(n, c.validator...)
			var asked edgetest.Questions
			r.On("/a", asked.Of(o.Answer))
			r.StoreLarge(t, "/a")
			r.Lose(t, "/a", c.lost...)
			if s := r.Get(t, "/a"); s.Text != o.Body || s.Broken != nil || s.StatusCode != 200 {
				t.Errorf("got %s, %v", s, s.Broken)
			}
			list := asked.All()
			if len(list) != 2 || list[1] != c.asked {
				t.Errorf("the origin was asked for %q, want %q", list, c.asked)
			}
			r.StoreLarge(t, "/a")
			for range 2 {
				r.Get(t, "/a").WantHit(t, "afterwards", o.Body)
			}
			if got := len(asked.All()); got != 2 {
				t.Errorf("the origin was asked %d times", got)
			}
		})
	}
}

// The same for each kind of request, and each way in which a body is read.
func TestLostChunksOfRangesComeFromTheOrigin(t *testing.T) {
	const n = 1 << 20
	for name, validator := range map[string][]string{"strong": {"ETag", `"1"`}, "none": nil} {
		r := edgetest.Start(t, edgetest.Cached(nil, edgetest.NoBucket))
		o := edgetest.InChunks(n, validator...)
		r.On("/a", o.Answer)
		for _, c := range []struct {
			value string
			lost  uint32
			body  string // "" for a multipart
		}{
			{"bytes=0-9", 0, o.Body[:10]},
			{"bytes=300000-900000", 2, o.Body[300000:900001]},
			{"bytes=-10", 3, o.Body[n-10:]},
			{"bytes=0-0,600000-600009", 2, ""},
		} {
			r.StoreLarge(t, "/a")
			r.Lose(t, "/a", c.lost)
			s := r.Get(t, "/a", "Range", c.value)
			right := s.StatusCode == 200 && s.Text == o.Body // of an origin that knows single ranges only
			if s.StatusCode == 206 {
				right = s.Text == c.body || c.body == "" && strings.Contains(s.Text, o.Body[600000:600010])
			}
			if !right || s.Broken != nil {
				t.Errorf("%s, %s: %s, %v", name, c.value, s, s.Broken)
			}
			if s := r.Get(t, "/a"); s.Text != o.Body || s.Broken != nil {
				t.Errorf("%s, after %s: %s, %v", name, c.value, s, s.Broken)
			}
		}
		r.StoreLarge(t, "/a")
		r.Lose(t, "/a", 1)
		if s := r.Ask(t, "HEAD", "/a", ""); s.StatusCode != 200 || s.ContentLength != n {
			t.Errorf("%s, HEAD: %s", name, s)
		}
	}
}

// An origin that knows no ranges gives all of it again, of which the beginning isn't sent twice.
func TestLostChunkComesFromAnOriginWithoutRanges(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil, edgetest.NoBucket))
	const n = 1 << 20
	r.On("/a", edgetest.Streamed(edgetest.Text(n), n, "Cache-Control", "max-age=600", "ETag", `"1"`))
	r.StoreLarge(t, "/a")
	r.Lose(t, "/a", 2)
	if s := r.Get(t, "/a"); s.Text != edgetest.Text(n) || s.Broken != nil {
		t.Errorf("got %s, %v", s, s.Broken)
	}
}

// An origin that has changed meanwhile: nobody gets bytes of two representations, and who comes before anything is sent
// gets the new one whole.
func TestLostChunkIsNotTakenOfAnotherRepresentation(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil, edgetest.NoBucket))
	const n = 1 << 20
	before, after := edgetest.InChunks(n, "ETag", `"1"`), edgetest.InChunks(n, "ETag", `"2"`)
	after.Body = strings.ToUpper(strings.ReplaceAll(after.Body, ",", "x"))
	r.On("/a", before.Answer)
	r.StoreLarge(t, "/a")
	r.Lose(t, "/a", 2)
	r.On("/a", after.Answer)
	if s := r.Get(t, "/a"); s.Text != after.Body || s.Broken != nil || s.Header.Get("ETag") != `"2"` {
		t.Errorf("got %s, %v", s, s.Broken)
	}
	r.StoreLarge(t, "/a")
	r.Get(t, "/a").WantHit(t, "afterwards", after.Body)
}

// Many at once want what has been lost: the origin isn't asked by each of them.
func TestLostChunksAreFetchedOnceForMany(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil, edgetest.NoBucket))
	o := edgetest.InChunks(1 << 20)
	r.On("/a", o.Answer)
	r.StoreLarge(t, "/a")
	r.Lose(t, "/a", 1, 2)
	for _, s := range getAtOnce(t, r, 40, "/a", nil) {
		if s.Text != o.Body || s.Broken != nil {
			t.Errorf("got %s, %v", s, s.Broken)
		}
	}
	if n := r.Count("/a"); n > 4 {
		t.Errorf("the origin was asked %d times", n-1)
	}
}

// A body that the origin breaks off goes on where it broke, under a strong validator: those who follow it see it whole.
func TestBrokenBodyIsResumed(t *testing.T) {
	const n = 1 << 20
	for name, validator := range map[string][]string{"strong": {"ETag", `"1"`}, "weak": {"ETag", `W/"1"`}} {
		r := edgetest.Start(t, edgetest.Cached(nil))
		o := edgetest.InChunks(n, validator...)
		var asked edgetest.Questions
		r.On("/a", asked.Of(func(req *mesh.Request, n int) *mesh.Response {
			resp := o.Answer(req, n)
			if n <= 2 { // half of what is left
				half := io.LimitReader(mesh.NewReader(resp.Stream), resp.Length/2)
				resp.Stream = mesh.NewBody(io.MultiReader(half, broken{}))
			}
			return resp
		}))
		s := r.Get(t, "/a")
		if whole := s.Text == o.Body && s.Broken == nil; whole != (name == "strong") || (!whole && s.Broken == nil) {
			t.Errorf("%s: %s, %v", name, s, s.Broken)
		}
		if list := asked.All(); name == "strong" &&
			!slices.Equal(list, []string{"", `bytes=524288-,"1"`, `bytes=786432-,"1"`}) {
			t.Errorf("%s: the origin was asked for %q", name, list)
		}
		r.StoreLarge(t, "/a")
		r.Get(t, "/a").WantHit(t, name, o.Body)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// A bucket that takes longer for a chunk than anybody would wait for a response isn't one without it.
func TestSlowBucketIsWaitedFor(t *testing.T) {
	for name, validator := range map[string][]string{"strong": {"ETag", `"1"`}, "none": nil} {
		slow := &edgetest.SlowServer{}
		r := edgetest.Start(t, edgetest.Cached(nil, func(s *edgetest.Config) { s.Cache.Slow = slow }))
		o := edgetest.InChunks(3<<20, validator...)
		r.On("/a", o.Answer)
		r.StoreLarge(t, "/a")
		nodetest.Eventually(t, "the bucket has it", func() bool {
			return r.RecordOf(t, "/a").Stored.Flags.Has(httpcache.InBucket)
		})
		for round := range 2 {
			r.Lose(t, "/a", 3, 4, 7)
			slow.Delay.Store(int64(kvcache.Patience * 3 / 2))
			if s := r.Get(t, "/a"); s.Text != o.Body || s.Broken != nil || !s.Hit {
				t.Errorf("%s, round %d: %s, %v", name, round, s, s.Broken)
			}
			slow.Delay.Store(0)
		}
		if n := r.Count("/a"); n != 1 && validator == nil { // under a strong validator the origin may be quicker
			t.Errorf("%s: the origin was asked %d times", name, n)
		}
	}
}

// A client that goes away while chunks are being brought says nothing of the response, which stays stored.
func TestResponseStaysStoredWhenItsReaderGoesAway(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	o := edgetest.InChunks(16*edgetest.ChunkSize, "ETag", `"1"`)
	r.On("/a", o.Answer)
	r.StoreLarge(t, "/a")
	nodetest.Eventually(t, "the bucket has it", func() bool {
		return r.RecordOf(t, "/a").Stored.Flags.Has(httpcache.InBucket)
	})
	nonce := r.RecordOf(t, "/a").Nonce
	for range 10 {
		r.Lose(t, "/a", 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
		x := r.OpenBody(t, "/a")
		x.Want(o.Body[:1000])
		_ = x.Conn.Close()
		nodetest.Eventually(t, "the connection is gone", func() bool { return r.Connections() == 0 })
	}
	r.Get(t, "/a").WantHit(t, "afterwards", o.Body)
	if rec := r.RecordOf(t, "/a"); rec.Nonce != nonce || r.Count("/a") != 1 {
		t.Errorf("it was fetched anew: the origin was asked %d times", r.Count("/a"))
	}
}

// While a slow client reads, the bucket loses what it hasn't yet: the rest comes from the origin, or is at hand
// already.
func TestBodyIsWholeThoughTheBucketIsEmptied(t *testing.T) {
	const n = 12 * edgetest.ChunkSize
	for name, validator := range map[string][]string{"strong": {"ETag", `"1"`}, "none": nil} {
		r := edgetest.Start(t, edgetest.Cached(nil))
		o := edgetest.InChunks(n, validator...)
		r.On("/a", o.Answer)
		r.StoreLarge(t, "/a")
		nodetest.Eventually(t, "the bucket has it", func() bool {
			return r.RecordOf(t, "/a").Stored.Flags.Has(httpcache.InBucket)
		})
		r.Lose(t, "/a", 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
		x := r.OpenBody(t, "/a")
		x.Want(o.Body[:1000])
		emptyBucket(t, r)
		x.Want(o.Body[1000:])
		x.WantEnd()
		if got := r.Count("/a"); got > 2 || (validator == nil && got > 1) {
			t.Errorf("%s: the origin was asked %d times", name, got)
		}
	}
}

// emptyBucket takes everything out of the bucket, behind the cache's back.
func emptyBucket(tb testing.TB, r *edgetest.Rig) {
	tb.Helper()
	js, err := jetstream.New(r.Conn.NATS())
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
func TestFullBucketTakesAllOfAResponseOrNothing(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil,
		func(s *edgetest.Config) { s.Cache.Store = func(c *node.CacheStore) { c.Disk = 8 * node.MiB } }))
	nodetest.Eventually(t, "the bucket is there", func() bool { return r.Cache.Stats().BucketReady })
	const size = 1 << 20
	bodies := map[string]string{}
	for i := range 12 {
		path := "/" + strconv.Itoa(i)
		o := edgetest.InChunks(size)
		o.Body = strconv.Itoa(i) + o.Body
		bodies[path] = o.Body
		r.On(path, o.Answer)
		r.StoreLarge(t, path)
	}
	chunks := uint64(size/(256<<10) + 1) // of each, whose record follows them
	nodetest.Eventually(t, "each response is in the bucket with its record, or left out", func() bool {
		s := r.Cache.Stats()
		return s.BucketWritten/(chunks+1)+s.BucketSkipped/chunks == 12
	})
	r.Restart(t, 0)
	hits := 0
	for path, body := range bodies {
		s := r.Get(t, path)
		if s.Text != body || s.Broken != nil {
			t.Errorf("%s: %s, %v", path, s, s.Broken)
		}
		if s.Hit {
			hits++
		}
	}
	t.Logf("%d of %d come from the bucket", hits, len(bodies))
	if hits < 4 {
		t.Errorf("only %d come from the bucket", hits)
	}
}

// A large response that a 304 has confirmed tells the bucket of nothing that isn't there.
func TestBucketHasNoRecordWithoutItsBody(t *testing.T) {
	// a quarter of the bucket is too little
	r := edgetest.Start(t, edgetest.Cached(nil,
		func(s *edgetest.Config) { s.Cache.Store = func(c *node.CacheStore) { c.Disk = node.MiB } }))
	nodetest.Eventually(t, "the bucket is there", func() bool { return r.Cache.Stats().BucketReady })
	o := edgetest.InChunks(600_000, "ETag", `"1"`)
	r.On("/a", func(req *mesh.Request, n int) *mesh.Response {
		resp := o.Answer(req, n)
		if n == 1 {
			resp.Header.Add("Age", "700")
		}
		return resp
	})
	r.Get(t, "/a")
	nodetest.Eventually(t, "it is stored", func() bool { return r.Has("/a") })
	if s := r.Get(t, "/a"); s.FwdStatus != 304 || s.Text != o.Body {
		t.Errorf("validated: %s", s)
	}
	onlyInBucketNow(t, r, "/b")
	if loads(t, r, "/a") {
		t.Error("the bucket has a record whose body nobody has")
	}
}

// onlyInBucketNow waits until what was to be written has been.
func onlyInBucketNow(tb testing.TB, r *edgetest.Rig, path string) {
	tb.Helper()
	r.On(path, edgetest.Fresh("small"))
	onlyInBucket(tb, r, path)
}

// loads reports whether the bucket has a record of the path.
func loads(tb testing.TB, r *edgetest.Rig, path string) bool {
	tb.Helper()
	key := []byte("Ghttp://example.test" + path)
	r.Cache.Drop(key)
	var v kvcache.View
	has, err := r.Cache.Read(tb.Context(), key, &v)
	if err != nil {
		tb.Fatal(err)
	}
	v.Release()
	return has
}

// Many large responses in a memory and a bucket that are both too small, asked for by many clients: none of them is
// cut.
func TestNoLargeResponseIsCutUnderLoad(t *testing.T) {
	const objects, clients, rounds = 24, 8, 12
	r := edgetest.Start(t, edgetest.Cached(nil, func(s *edgetest.Config) {
		s.Cache.Store = func(c *node.CacheStore) { c.Memory, c.Disk = 16*node.MiB, 16*node.MiB }
	}))
	bodies := make([]*edgetest.Representation, objects)
	for i := range objects {
		o := edgetest.InChunks(300_000 + i*100_000)
		o.Body = strconv.Itoa(i) + "!" + o.Body
		switch i % 3 {
		case 0:
			o.Header = append(o.Header, "ETag", `"`+strconv.Itoa(i)+`"`)
		case 1:
			o.Header = append(o.Header, "ETag", `W/"1"`)
		}
		bodies[i] = o
		r.On("/"+strconv.Itoa(i), o.Answer)
	}
	var cut, hits atomic.Int64
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for n := range rounds * 6 {
				i := (c*5 + n/6*7 + (n%6)*(n%6)) % objects
				body, hit, err := fetchBody(t, r, "/"+strconv.Itoa(i))
				if hit {
					hits.Add(1)
				}
				if err != nil || body != bodies[i].Body {
					cut.Add(1)
					t.Errorf("object %d: %d bytes of %d, a hit: %t, %v", i, len(body), len(bodies[i].Body), hit, err)
				}
			}
		})
	}
	wg.Wait()
	stats := r.Cache.Stats()
	t.Logf("%d responses, %d hits, %d cut; %d chunks evicted, %d skipped by the bucket",
		clients*rounds*6, hits.Load(), cut.Load(), stats.Evicted, stats.BucketSkipped)
}

// fetchBody asks without the checks of get, which ends the test from its own goroutine only.
func fetchBody(tb testing.TB, r *edgetest.Rig, path string) (body string, hit bool, err error) {
	tb.Helper()
	conn, err := (&net.Dialer{}).DialContext(tb.Context(), "tcp", r.Address)
	if err != nil {
		return "", false, fmt.Errorf("dial: %w", err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(conn, edgetest.RequestHead("GET", path, nil)); err != nil {
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
