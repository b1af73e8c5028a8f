package embedded_test

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"millrace/embedded/embeddedtest"
	"millrace/node/nodetest"
)

// partsApp is an upstream whose answers are hard to combine.
func partsApp(tb testing.TB) (url string, came, ended *atomic.Int64) {
	tb.Helper()
	came, ended = &atomic.Int64{}, &atomic.Int64{}
	hangs := make(chan struct{}, 100)
	flush := func(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }
	mux := http.NewServeMux()
	handle := func(path, kind string, f func(w http.ResponseWriter, r *http.Request)) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", kind)
			f(w, r)
		})
	}
	const asJSON, asText = "application/json", "text/plain"
	handle("/json", asJSON, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"a":1}`) })
	handle("/bad", asText, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	handle("/chunks", asJSON, func(w http.ResponseWriter, _ *http.Request) {
		for _, piece := range []string{`{"a`, `":`, `1}`} {
			fmt.Fprint(w, piece)
			flush(w)
		}
	})
	handle("/long", asJSON, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `"%s"`, strings.Repeat("x", 1<<20))
	})
	handle("/control", asText, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, strings.Repeat("\x01", 3<<20))
	})
	handle("/deep", asJSON, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Repeat("[", 6<<20)) })
	handle("/latin", asJSON, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "\"caf\xe9\"") })
	handle("/gzip", asJSON, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		zip := gzip.NewWriter(w)
		fmt.Fprint(zip, `{"a":1}`)
		_ = zip.Close()
	})
	handle("/bomb", asText, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		zip := gzip.NewWriter(w)
		_, _ = io.CopyN(zip, zeros{}, 9<<20)
		_ = zip.Close()
	})
	handle("/brotli", asText, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "br")
		fmt.Fprint(w, "x")
	})
	handle("/trickle", asText, func(w http.ResponseWriter, r *http.Request) {
		flush(w)
		<-r.Context().Done()
	})
	handle("/after", asJSON, func(w http.ResponseWriter, _ *http.Request) {
		<-hangs // so the other call has arrived
		fmt.Fprint(w, `{"a":1}`)
	})
	handle("/hang", asText, func(_ http.ResponseWriter, r *http.Request) {
		came.Add(1)
		hangs <- struct{}{}
		<-r.Context().Done()
		ended.Add(1)
	})
	app := httptest.NewServer(mux)
	tb.Cleanup(app.Close)
	return app.URL, came, ended
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// call is one call of a gather in a configuration.
func call(tb testing.TB, name, path string) string {
	tb.Helper()
	return embeddedtest.YAML(tb, `
		        $NAME:
		          to: upstream:app
		          path: /$PATH
		`, "NAME", name, "PATH", path)
}

// Answers that arrive in pieces, encoded, too long, too deeply nested or too late harm neither the other parts nor the
// node.
func TestGatherParts(t *testing.T) {
	app, _, _ := partsApp(t)
	var calls strings.Builder
	for _, name := range []string{"json", "chunks", "long", "deep", "latin", "gzip", "bomb", "brotli"} {
		calls.WriteString(call(t, name, name))
	}
	var many strings.Builder
	for i := range 8 {
		many.WriteString(call(t, "c"+strconv.Itoa(i), "control"))
	}
	opts, _ := settings(t, edgeYAML+embeddedtest.YAML(t, `
		upstreams:
		  app:
		    targets: [$APP]
		    eject:
		      failures: 0
		      rate: 0
		routes:
		  - path: /kept
		    gather:
		      mode: all
		      calls:
		        a:
		          to: upstream:app
		          path: /gzip
		          cache: 1h
		          extract: a
		  - path: /many
		    gather:
		      mode: all
		      calls:
		$MANY
		  - path: /parts
		    gather:
		      calls:
		        trickle:
		          to: upstream:app
		          path: /trickle
		          timeout: 200ms
		          fallback: late
		        extract:
		          to: upstream:app
		          path: /chunks
		          extract: a
		        nothing:
		          to: upstream:app
		          path: /brotli
		          extract: a
		          fallback: none
		$CALLS
		`, "APP", app, "CALLS", calls.String(), "MANY", many.String()))
	n := open(t, opts)
	began := time.Now()
	status, body := get(t, n.EdgeURL()+"/parts")
	var got map[string]struct {
		Status int
		Body   json.RawMessage
		Error  struct{ Code, Detail string }
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil || status != 200 {
		t.Fatalf("%d %.200s: %v", status, body, err)
	}
	for name, want := range map[string]string{
		"json": `{"a":1}`, "chunks": `{"a":1}`, "gzip": `{"a":1}`,
		"latin": `"\"caf` + "\ufffd" + `\""`, "trickle": `"late"`, "extract": "1", "nothing": `"none"`,
	} {
		if string(got[name].Body) != want {
			t.Errorf("%s: %+v, want %s", name, got[name], want)
		}
	}
	if len(got["long"].Body) != 1<<20+2 || len(got["deep"].Body) != 6<<20+2 {
		t.Errorf("long has %d bytes, deep %d: %+v %+v", len(got["long"].Body), len(got["deep"].Body), got["long"].Error,
			got["deep"].Error)
	}
	for name, want := range map[string]string{"bomb": "longer than 8MiB", "brotli": "content coding"} {
		if got[name].Error.Code != "bad_reply" || !strings.Contains(got[name].Error.Detail, want) {
			t.Errorf("%s: %+v", name, got[name])
		}
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("took %s", took)
	}
	for range 3 { // from the upstream, and then from the cache
		if status, body = get(t, n.EdgeURL()+"/kept"); status != 200 || body != `{"a":1}` {
			t.Errorf("gzip with a cache: %d %s", status, body)
		}
	}
	if status, body = get(t, n.EdgeURL()+"/many"); status != 502 || !strings.Contains(body, "together") &&
		!strings.Contains(body, "failed: c") {
		t.Errorf("more than a gather may hold: %d %.300s", status, body)
	}
}

// namesUser answers with the name of the user. The path decides how the answer may be cached.
func namesUser(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/private":
		w.Header().Set("Cache-Control", "private, max-age=60")
	case "/vary":
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Vary", "X-User")
	case "/public":
		w.Header().Set("Cache-Control", "max-age=60")
	case "/short":
		w.Header().Set("Cache-Control", "max-age=3600")
		w.Header().Set("Millrace-CDN-Cache-Control", "max-age=5")
	case "/down":
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	fmt.Fprint(w, r.Header.Get("X-User"))
}

// askAs sends a request as a user.
func askAs(t *testing.T, url, user string) (h http.Header, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-User", user)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header, string(b)
}

// The combined answer is cached only as its parts allow. Calls with a cache of their own have separate entries.
func TestGatherCaches(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(namesUser))
	defer app.Close()
	route := func(path, cache string) string {
		return embeddedtest.YAML(t, `
			  - path: $PATH
			    cache: $CACHE
			    gather:
			      mode: all
			      calls:
			        a:
			          to: upstream:app
			          path: $PATH
			`, "PATH", path, "CACHE", cache)
	}
	opts, _ := settings(t, edgeYAML+embeddedtest.YAML(t, `
		upstreams:
		  app:
		    targets: [$APP]
		    retry:
		      tries: 1
		    eject:
		      failures: 0
		      rate: 0
		routes:
		  - path: /partial
		    cache:
		      ttl: 1h
		      force: true
		    rewrite:
		      response:
		        set:
		          Cache-Control: max-age=60
		    gather:
		      calls:
		        a:
		          to: upstream:app
		          path: /down
		        b:
		          to: upstream:app
		          path: /public
		  - path: /instead
		    cache:
		      ttl: 1h
		      force: true
		    gather:
		      mode: any
		      calls:
		        a:
		          to: upstream:app
		          path: /down
		          fallback: 1
		  - path: /short
		    cache: true
		    gather:
		      mode: all
		      calls:
		        a:
		          to: upstream:app
		          path: /short
		          cache: true
		  - path: /admin
		    rewrite:
		      request:
		        set:
		          X-User: admin
		    gather:
		      mode: all
		      calls:
		        a:
		          to: upstream:app
		          path: /silent
		          cache: 1h
		  - path: /guest
		    gather:
		      mode: all
		      calls:
		        a:
		          to: upstream:app
		          path: /silent
		          cache: 1h
		`, "APP", app.URL)+
		route("/private", "1h")+route("/vary", "1h")+route("/public", "true")+route("/silent", "1h"))
	opts.Config.Mesh.GatherUpstreams = []string{"*"}
	n := open(t, opts)
	ask := func(path, user string) (http.Header, string) { t.Helper(); return askAs(t, n.EdgeURL()+path, user) }
	for range 3 {
		for _, user := range []string{"ada", "bob"} {
			for _, path := range []string{"/private", "/vary"} {
				if _, body := ask(path, user); body != `{"a":"`+user+`"}` {
					t.Errorf("%s of %s: %s", path, user, body)
				}
			}
		}
		if _, body := ask("/admin", "ada"); body != `{"a":"admin"}` {
			t.Errorf("the admin got %s", body)
		}
		if _, body := ask("/guest", "bob"); body != `{"a":"bob"}` {
			t.Errorf("a guest got %s", body)
		}
	}
	if h, _ := ask("/private", "ada"); !strings.Contains(h.Get("Cache-Control"), "private") ||
		!strings.Contains(h.Get("Cache-Status"), "private") {
		t.Errorf("private: %v", h)
	}
	if h, _ := ask("/vary", "ada"); h.Get("Vary") != "x-user" || !strings.Contains(h.Get("Cache-Status"), "hit") {
		t.Errorf("vary: %v", h)
	}
	for _, path := range []string{"/public", "/silent"} {
		nodetest.Eventually(t, path+" is kept", func() bool {
			h, _ := ask(path, "ada")
			if h.Get("Millrace-CDN-Cache-Control") != "" {
				t.Fatalf("%s tells others what is for this cache: %v", path, h)
			}
			return strings.Contains(h.Get("Cache-Status"), "hit")
		})
	}
	for range 3 {
		for path, names := range map[string]string{"/partial": "a", "/instead": "a"} {
			if h, _ := ask(path, "ada"); h.Get("Millrace-Partial") != names || strings.Contains(h.Get("Cache-Status"),
				"hit") || h.Get("Cache-Control") != "no-store" {
				t.Errorf("%s: %v", path, h)
			}
		}
	}
	// First combined from a fetched part, then from the stored one, which lacks Millrace-CDN-Cache-Control.
	for i := range 3 {
		nodetest.Eventually(t, "the whole is kept, for as long as its part", func() bool {
			h, _ := ask(fmt.Sprintf("/short?%d", i), "ada")
			_, ttl, hit := strings.Cut(h.Get("Cache-Status"), "hit; ttl=")
			if n, err := strconv.Atoi(ttl); hit && (err != nil || n > 5) {
				t.Fatalf("it is kept longer: %v", h)
			}
			return hit
		})
	}
	member := newTaker(t, n)
	if _, err := member.Request("api.gather",
		[]byte(`{"calls": {"a": {"to": "upstream:app", "path": "/silent", "cache": "1h"}}, "headers": {"X-User": "root"}, "host": "`+strings.TrimPrefix(n.EdgeURL(), "http://")+`"}`), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if _, body := ask("/guest", "carl"); strings.Contains(body, "root") {
		t.Errorf("a member filled the cache of a route: %s", body)
	}
}

// A race cancels its losers, also one that was to be cached. A quorum ends when it can't be reached any more. A
// fallback waits for calls that may still succeed.
func TestGatherModes(t *testing.T) {
	app, came, ended := partsApp(t)
	opts, _ := settings(t, edgeYAML+embeddedtest.YAML(t, `
		upstreams:
		  app:
		    targets: [$APP]
		    timeout: 25s
		    retry:
		      tries: 1
		    eject:
		      failures: 0
		      rate: 0
		routes:
		  - path: /lost
		    timeout: 30s
		    gather:
		      mode: race
		      calls:
		        nobody:
		          to: service:nobody
		          path: /
		        slow:
		          to: upstream:app
		          path: /hang
		  - path: /race
		    timeout: 30s
		    gather:
		      mode: race
		      calls:
		        slow:
		          to: upstream:app
		          path: /hang
		          cache: 1h
		        quick:
		          to: upstream:app
		          path: /after
		  - path: /quorum
		    timeout: 30s
		    gather:
		      mode: quorum
		      quorum: 2
		      calls:
		        a:
		          to: upstream:app
		          path: /bad
		        b:
		          to: upstream:app
		          path: /bad
		        c:
		          to: upstream:app
		          path: /hang
		  - path: /any
		    timeout: 30s
		    gather:
		      mode: any
		      calls:
		        a:
		          to: upstream:app
		          path: /bad
		          fallback: 0
		        b:
		          to: upstream:app
		          path: /chunks
		  - path: /enough
		    timeout: 30s
		    gather:
		      mode: quorum
		      quorum: 2
		      calls:
		        a:
		          to: upstream:app
		          path: /bad
		          fallback: 0
		        b:
		          to: upstream:app
		          path: /json
		        c:
		          to: upstream:app
		          path: /bad
		`, "APP", app))
	n := open(t, opts)
	if status, body := get(t, n.EdgeURL()+"/race"); status != 200 || body != `{"a":1}` {
		t.Errorf("race: %d %s", status, body)
	}
	nodetest.Eventually(t, "the loser ends", func() bool { return ended.Load() == 1 })
	resp, body := fetch(t, n.EdgeURL()+"/lost")
	if resp.StatusCode != 502 || resp.Header.Get("Millrace-Partial") != "nobody" {
		t.Errorf("a race that an error wins: %d %s %v", resp.StatusCode, body, resp.Header)
	}
	nodetest.Eventually(t, "the other ends", func() bool { return ended.Load() == came.Load() })
	resp, body = fetch(t, n.EdgeURL()+"/quorum")
	if resp.StatusCode != 502 || !strings.Contains(body, "0 of 3 calls succeeded, and 2 must") ||
		resp.Header.Get("Millrace-Partial") != "a, b" || !strings.Contains(resp.Header.Get("Server-Timing"), "a;dur=") {
		t.Errorf("quorum: %d %s %v", resp.StatusCode, body, resp.Header)
	}
	nodetest.Eventually(t, "what is wanted no more ends", func() bool { return ended.Load() == came.Load() })
	if resp, body = fetch(t, n.EdgeURL()+"/any"); body != `{"a":1}` || resp.Header.Get("Millrace-Partial") != "" {
		t.Errorf("any: %s %v", body, resp.Header)
	}
	if resp, body = fetch(t, n.EdgeURL()+"/enough"); body != `{"a":0,"b":{"a":1}}` ||
		resp.Header.Get("Millrace-Partial") != "a, c" {
		t.Errorf("enough: %s %v", body, resp.Header)
	}
}

func fetch(tb testing.TB, url string) (*http.Response, string) {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, url, nil)
	if err != nil {
		tb.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return resp, string(body)
}
