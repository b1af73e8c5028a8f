package cache_test

import (
	"strconv"
	"testing"

	"millrace/edge/edgetest"
	"millrace/node/nodetest"
)

// onlyInBucket asks for a path, and takes it out of the memory once the bucket has it.
func onlyInBucket(tb testing.TB, r *edgetest.Rig, path string, header ...string) {
	tb.Helper()
	before := r.Cache.Stats().BucketWritten
	r.Get(tb, path, header...)
	nodetest.Eventually(tb, "the bucket has it", func() bool { return r.Cache.Stats().BucketWritten > before })
	r.Cache.Drop([]byte("Ghttp://example.test" + path))
}

// A HEAD, a range or a condition that the memory can't answer is answered from the bucket, as a GET is.
func TestBucketAnswersEveryMethod(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	nodetest.Eventually(t, "the bucket is there", func() bool { return r.Cache.Stats().BucketReady })
	for i, c := range []struct {
		method string
		status int
		body   string
		header []string
	}{
		{"GET", 200, digits, nil},
		{"HEAD", 200, "", nil},
		{"GET", 206, "23", []string{"Range", "bytes=2-3"}},
		{"GET", 206, "hij", []string{"Range", "bytes=-3"}},
		{"GET", 304, "", []string{"If-None-Match", `"1"`}},
		{"HEAD", 304, "", []string{"If-None-Match", `"1"`}},
	} {
		path := "/" + strconv.Itoa(i)
		r.On(path, edgetest.Always(200, digits, "Cache-Control", "max-age=600", "ETag", `"1"`))
		onlyInBucket(t, r, path)
		s := r.Ask(t, c.method, path, "", c.header...)
		if !s.Hit || s.Detail != "bucket" || s.StatusCode != c.status || s.Text != c.body {
			t.Errorf("%s %q: %s", c.method, c.header, s)
		}
		if c.method == "HEAD" && c.status == 200 && s.ContentLength != 20 {
			t.Errorf("HEAD tells a length of %d", s.ContentLength)
		}
		if n := r.Count(path); n != 1 {
			t.Errorf("%s %q: the origin was asked %d times", c.method, c.header, n)
		}
	}
}
