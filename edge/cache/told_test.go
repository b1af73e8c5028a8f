package cache_test

import (
	"compress/gzip"
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

// The freshness that a route names is the one that is told and kept: cache: 30s isn't 28 seconds.
func TestCacheRouteTTLIsWhatIsTold(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) { c.TTL = node.Duration(30 * time.Second) }))
	for i := range 40 {
		path := "/" + strconv.Itoa(i)
		r.On(path, edgetest.Always(200, "%d"))
		r.Get(t, path)
		if s := r.Get(t, path); !s.Hit || s.TTL < 29 || s.TTL > 30 {
			t.Errorf("%s: %s", path, s)
		}
	}
}

// onlyInBucket asks for a path, and takes it out of the memory once the bucket has it.
func onlyInBucket(tb testing.TB, r *edgetest.Rig, path string, header ...string) {
	tb.Helper()
	before := r.Cache.Stats().BucketWritten
	r.Get(tb, path, header...)
	nodetest.Eventually(tb, "the bucket has it", func() bool { return r.Cache.Stats().BucketWritten > before })
	r.Cache.Drop([]byte("Ghttp://example.test" + path))
}

// A HEAD, a range or a condition that the memory can't answer is answered from the bucket, as a GET is.
func TestCacheBucketAnswersEveryMethod(t *testing.T) {
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

// With compress every response says that it depends on Accept-Encoding, the first of each coding too, and each client
// gets the same as all after it.
func TestCacheCompressFirstAnswerVaries(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) { c.Compress = true }))
	text := strings.Repeat("all work and no play ", 500)
	html := []string{"Content-Type", "text/html", "Cache-Control", "max-age=600"}
	r.On("/a",
		edgetest.Always(200, text, append(html, "ETag", `"1"`, "Content-Digest", "sha-256=:x:", "Vary", "X-A")...))
	for _, coding := range []string{"gzip", "br", "zstd", ""} {
		h := []string{"Accept-Encoding", coding}
		if coding == "" {
			h = nil
		}
		first, second := r.Get(t, "/a", h...), r.Get(t, "/a", h...)
		if first.Hit || !second.Hit {
			t.Errorf("%q: %s, then %s", coding, first, second)
		}
		for _, s := range []*edgetest.Seen{first, second} {
			if vary := strings.ToLower(s.Header.Get("Vary")); vary != "accept-encoding, x-a" {
				t.Errorf("%q: Vary %q of %s", coding, vary, s)
			}
			if s.Header.Get("Content-Encoding") != coding || (coding != "" && s.Header.Get("Content-Digest") != "") {
				t.Errorf("%q: %v", coding, s.Header)
			}
		}
		if first.Text != second.Text || first.Header.Get("ETag") != second.Header.Get("ETag") {
			t.Errorf("%q: the first got another representation: %v, then %v", coding, first.Header, second.Header)
		}
	}
	s := r.Get(t, "/a", "Accept-Encoding", "gzip", "X-A", "1")
	z, err := gzip.NewReader(strings.NewReader(s.Text))
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	if plain, err := io.ReadAll(z); err != nil || string(plain) != text {
		t.Errorf("decoded to %q, %v", edgetest.Shorten(string(plain)), err)
	}
	r.On("/b", func(req *mesh.Request, _ int) *mesh.Response {
		resp := &mesh.Response{
			Status: 200,
			Header: edgetest.Fields(append(html, "Content-Length", strconv.Itoa(len(text)))...),
		}
		if req.Method == "GET" {
			resp.Body = []byte(text)
		}
		return resp
	})
	if s := r.Ask(t, "HEAD", "/b", ""); !strings.EqualFold(s.Header.Get("Vary"), "Accept-Encoding") {
		t.Errorf("HEAD of what isn't stored: %v", s.Header)
	}
	r.On("/post", edgetest.Always(200, text, append(html, "Content-Location", "/post")...))
	if s := r.Ask(t, "POST", "/post", "x", "Accept-Encoding", "gzip"); s.Text != text {
		t.Errorf("the response to a POST is compressed: %s", s)
	}
}
