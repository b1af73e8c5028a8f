package site_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"millrace/edge/edgetest"
	"millrace/node"
	"millrace/node/nodetest"
	"millrace/node/site"
)

// noisy has another content at each place, so that bytes that move are noticed.
func noisy(n int) string {
	rng := rand.New(rand.NewPCG(uint64(n), 7))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.UintN(256))
	}
	return string(b)
}

// Requests that are sent at once have the same responses, to the byte, as one after another: small files of memory,
// large ones, HEAD, 304, 206, 404, 405 and bodies that no file needs.
func TestPipelinedRequests(t *testing.T) {
	folder := edgetest.Folder{
		"/index.html": "<p>home", "/s.txt": noisy(900), "/m.bin": noisy(64<<10 + 1), "/l.bin": noisy(700_000),
		"/404.html": "none", "/a.js": "plain", "/a.js br": "br", "/empty.txt": "", "/x/index.html": "x",
	}
	r, _ := start(t, folder, site.Options{})
	tag := func(path string) string {
		resp, _ := askOnce(t, r, "GET", path)
		return resp.Header.Get("ETag")
	}
	l, small := tag("/l.bin"), tag("/s.txt")
	const h = " HTTP/1.1\r\nHost: h.test\r\n"
	requests := []string{
		"GET /s.txt" + h + "\r\n", "GET /l.bin" + h + "\r\n", "HEAD /l.bin" + h + "\r\n", "HEAD /s.txt" + h + "\r\n",
		"GET /l.bin" + h + "If-None-Match: " + l + "\r\n\r\n",
		"GET /s.txt" + h + "If-None-Match: " + small + "\r\n\r\n",
		"GET /none" + h + "\r\n", "HEAD /none" + h + "\r\n", "GET /l.bin" + h + "Range: bytes=5-600000\r\n\r\n",
		"GET /m.bin" + h + "Range: bytes=0-1,5-9,-70000\r\n\r\n", "GET /m.bin" + h + "\r\n",
		"POST /s.txt" + h + "Content-Length: 30\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: ", "GET /x" + h + "\r\n",
		"GET /s.txt" + h + "Content-Length: 40\r\n\r\nGET /l.bin HTTP/1.1\r\nHost: smuggled.te\r\n",
		"GET /l.bin" + h + "Transfer-Encoding: chunked\r\n\r\n5\r\nGET /\r\n0\r\n\r\n", "GET /empty.txt" + h + "\r\n",
		"HEAD /m.bin" + h + "Content-Length: 3\r\n\r\nabc", "GET /a.js" + h + "Accept-Encoding: br\r\n\r\n",
		"GET /l.bin" + h + "Range: bytes=900000-\r\n\r\n", "GET /l.bin" + h + "If-Match: \"x\"\r\n\r\n",
		"OPTIONS /l.bin" + h + "\r\n", "GET /m.bin" + h + "Range: bytes=-0\r\n\r\n",
	}
	clean := func(resp *http.Response, body []byte) string {
		resp.Header.Del("X-Request-Id")
		resp.Header.Del("Date")
		if resp.Header.Get("Content-Type") == "application/problem+json" {
			body = nil
		}
		if ct := resp.Header.Get("Content-Type"); strings.HasPrefix(ct, "multipart/") {
			_, boundary, _ := strings.Cut(ct, "boundary=")
			body = bytes.ReplaceAll(body, []byte(strings.Trim(boundary, `"`)), []byte("B"))
			resp.Header.Del("Content-Type")
		}
		return fmt.Sprint(resp.StatusCode, resp.Header, resp.ContentLength, len(body)) + string(body)
	}
	read := func(in *bufio.Reader, request string) (string, error) {
		method, _, _ := strings.Cut(request, " ")
		resp, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			return "", err
		}
		body, err := io.ReadAll(resp.Body)
		return clean(resp, body), err
	}
	want := map[string]string{}
	for _, q := range requests {
		c := r.Dial(t)
		_, _ = io.WriteString(c, q)
		got, err := read(bufio.NewReader(c), q)
		if err != nil {
			t.Fatalf("%.60q: %v", q, err)
		}
		want[q] = got
		_ = c.Close()
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for range 30 {
		var list []string
		for range 40 {
			list = append(list, requests[rng.IntN(len(requests))])
		}
		c := r.Dial(t)
		go func() {
			all := strings.Join(list, "")
			for len(all) > 0 {
				n := min(1+rng.IntN(3000), len(all))
				if _, err := io.WriteString(c, all[:n]); err != nil {
					return
				}
				all = all[n:]
			}
		}()
		in := bufio.NewReader(c)
		for i, q := range list {
			got, err := read(in, q)
			if err != nil || got != want[q] {
				before := ""
				if i > 0 {
					before = list[i-1]
				}
				t.Errorf("%.70q after %.70q: %v, got %.200q, want %.200q", q, before, err, got, want[q])
				break
			}
		}
		_ = c.Close()
	}
}

// The samples of requests come to the same verdicts where a site answers.
func TestCorpusAtASite(t *testing.T) {
	r, _ := start(t, edgetest.Folder{"/index.html": "x", "/p": "p", "/x": "x", "/404.html": "n", "/smuggled": "S"},
		site.Options{SPA: "/index.html"}, func(c *edgetest.Config) {
			c.Routes[0].EncodedSlash = node.EncodedSlashKeep
		})
	refused := 0
	for _, s := range edgetest.Corpus(t) {
		c := r.Dial(t)
		for _, p := range s.Parts {
			_, _ = c.Write(p.Bytes)
			<-time.After(p.Pause) // the sample says how long
		}
		_ = c.(*net.TCPConn).CloseWrite()
		in := bufio.NewReader(c)
		var statuses []int
		for {
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				break
			}
			b, _ := io.ReadAll(resp.Body)
			if resp.StatusCode >= 200 {
				statuses = append(statuses, resp.StatusCode)
			}
			if string(b) == "S" {
				t.Errorf("%s: a smuggled request was answered", s.ID)
			}
		}
		_ = c.Close()
		switch s.Verdict {
		case "R", "R*", "r":
			refused++
			if len(statuses) > 0 && statuses[0] < 400 {
				t.Errorf("%s must be refused (%s), got %d", s.ID, s.Clause, statuses)
			}
		case "A":
			if slices.Contains(statuses, 400) {
				t.Errorf("%s must be accepted, got %d", s.ID, statuses)
			}
		}
		if len(statuses) > s.MaxRequests && s.Verdict == "A" {
			t.Errorf("%s: %d responses, at most %d requests: %d", s.ID, len(statuses), s.MaxRequests, statuses)
		}
	}
	t.Logf("%d refused", refused)
}

// Clients that reset the connection in the middle of a file leave nothing behind.
func TestThousandResets(t *testing.T) {
	r, _ := start(t, edgetest.Folder{"/l.bin": noisy(8 << 20), "/s.txt": "s"}, site.Options{})
	askOnce(t, r, "GET", "/s.txt")
	http.DefaultClient.CloseIdleConnections()
	nodetest.Eventually(t, "idle", func() bool { return r.Connections() == 0 })
	fds := func() int { l, _ := os.ReadDir("/proc/self/fd"); return len(l) }
	before, beforeFDs := runtime.NumGoroutine(), fds()
	buf := make([]byte, 1000)
	for i := range 1000 {
		c := r.Dial(t)
		q := "GET /l.bin HTTP/1.1\r\nHost: h\r\n"
		if i%3 == 0 {
			q += "Range: bytes=0-100,500-5000000\r\n"
		}
		_, _ = io.WriteString(c, q+"\r\nGET /s.txt HTTP/1.1\r\nHost: h\r\n\r\n")
		if i%2 == 0 {
			_, _ = c.Read(buf)
		}
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}
	nodetest.Eventually(t, "all have gone", func() bool {
		return r.Connections() == 0 && runtime.NumGoroutine() <= before+3 && fds() <= beforeFDs+2
	})
}

// No path leads out of the site, or into another host.
func TestPathsOfAttackers(t *testing.T) {
	rules := func(m *site.Manifest) {
		m.Redirects = []site.Redirect{
			{Line: 1, From: "/r/*", To: "/:splat", Status: 302},
			{Line: 2, From: "/q/*", To: "/x?u=:splat", Status: 302},
			{Line: 3, From: "/o/*", To: "https://good.test/:splat", Status: 301},
			{Line: 4, From: "/h/:a/:b", To: "/:a/:b", Status: 302},
			{Line: 5, From: "/w/*", To: "/:splat", Status: 200},
			{Line: 6, From: "/n/*", To: "https://good.test", Status: 301},
			{Line: 7, From: "/f/*", To: "/x#:splat", Status: 302},
		}
	}
	s := edgetest.NewSites(t)
	folder := edgetest.Folder{
		"/index.html": "home", "/evil.test/index.html": "e", "/a.html": "a", "/x/index.html": "x",
		"/@h/index.html": "h",
	}
	s.Publish("www", s.Deploy(t, folder, site.Options{}, rules))
	var routes []node.Route
	slash := edgetest.SiteRoute("/*", "site:www")
	slash.EncodedSlash = node.EncodedSlashKeep
	routes = append(routes, slash)
	for i, text := range []string{"/g/*", "/t/{l}/*", "/deep/{a}/{b}/*"} {
		one := edgetest.SiteRoute(text, "site:www")
		one.Name = fmt.Sprint("r", i)
		one.EncodedSlash = node.EncodedSlashKeep
		one.Rewrite = &node.Rewrite{}
		if err := one.Rewrite.Path.UnmarshalText([]byte("/{*}")); err != nil {
			t.Fatal(err)
		}
		routes = append(routes, one)
	}
	r := edgetest.Start(t, edgetest.Config{Routes: routes, Sites: s})
	bits := []string{
		"//evil.test", "/evil.test", "/%2Fevil.test", "/%2f%2fevil.test", "/\\evil.test", "/%5Cevil.test", "/..",
		"/%2e%2e",
		"/.%2e/", "/%2e/", "/;/..", "/..;/", "/%00", "/%0d%0aX-Evil:1", "/@h", "/%40h", "//", "/evil.test/index",
		"/a.html",
		"/x/index.html", "/evil.test/", "/\t/evil.test", "/%09/evil.test", "/%09%2Fevil.test", "/?//evil.test", "/.",
		"",
		"/%25%32%66evil", "/http:%2F%2Fevil.test", "/:80", "/%c0%af..", "/%E2%80%AE",
	}
	n := 0
	for _, prefix := range []string{
		"", "/r", "/q", "/o", "/h", "/w", "/n", "/f", "/g", "/g/r", "/g/h", "/t", "/t/en",
		"/t/en/r", "/t/%2Fevil.test", "/deep/a/b", "/deep/%2F/%2F", "/deep//",
	} {
		for _, a := range bits {
			for _, b := range append(bits, "") {
				target := prefix + a + b
				if !strings.HasPrefix(target, "/") || strings.ContainsAny(target, "\t") {
					continue
				}
				c := r.Dial(t)
				_, _ = io.WriteString(c, "GET "+target+" HTTP/1.1\r\nHost: h.test\r\nConnection: close\r\n\r\n")
				resp, err := http.ReadResponse(bufio.NewReader(c), nil)
				_ = c.Close()
				if err != nil {
					t.Errorf("%q: %v", target, err)
					continue
				}
				n++
				l := resp.Header.Get("Location")
				if resp.Header.Get("X-Evil") != "" {
					t.Errorf("%q: split", target)
				}
				path, _, _ := strings.Cut(l, "?")
				good := l == "" || strings.HasPrefix(l, "https://good.test/") || l == "https://good.test" ||
					strings.HasPrefix(l, "https://good.test?") ||
					(strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "//") &&
						!strings.HasPrefix(path, "/\\"))
				if !good || strings.Contains(path, "/../") || strings.ContainsAny(path, "\r\n\t\\ ") {
					t.Errorf("%q leads to %q", target, l)
				}
			}
		}
	}
	t.Logf("%d paths", n)
}
