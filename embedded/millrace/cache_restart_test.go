package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"millrace/edge/admin"
	"millrace/node/nodetest"
)

// ask requests a path of a host from a node.
func (n *cacheNode) ask(t *testing.T, host, path string) answered {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, n.edge+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answered{resp.StatusCode, string(body), resp.Header.Get("Cache-Status"), err}
}

// After a restart a node still has what it stored, except what was purged before, whether the process was stopped or
// killed.
func TestWarmRestart(t *testing.T) {
	const keys = 30
	var version, requests atomic.Int64
	version.Store(1)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		w.Header().Set("Cache-Control", "max-age=3600")
		fmt.Fprintf(w, "%s %d", r.URL.Path, version.Load())
	}))
	defer app.Close()
	n := startAlone(t, app.URL, "true", "")
	path := func(key int) string { return fmt.Sprintf("/k/%d", key) }
	for key := range keys {
		n.ask(t, "warm.test", path(key))
	}
	nodetest.Eventually(t, "all is in the bucket", func() bool {
		m, err := n.metrics()
		return err == nil && m[`millrace_cache_bucket_operations_total{result="written"}`] >= keys
	})
	for purged, end := range []func(*testing.T){n.end, n.kill} { // key 0, then key 1
		version.Add(1)
		url := "http://warm.test" + path(purged)
		if _, err := postPurge(http.DefaultClient, n.admin, admin.Purge{URL: url, Wait: admin.WaitAll}); err != nil {
			t.Fatal(err)
		}
		end(t)
		http.DefaultClient.CloseIdleConnections()
		n.start(t)
		nodetest.Eventually(t, "the node may serve what it has stored", n.follows)
		before := requests.Load()
		for key := purged + 1; key < keys; key++ {
			a := n.ask(t, "warm.test", path(key))
			if a.status != http.StatusOK || a.body != path(key)+" 1" || howServed(a.how) != "bucket" {
				t.Errorf("restart %d, key %d: %d %q, %s", purged, key, a.status, a.body, a.how)
			}
		}
		if asked := requests.Load() - before; asked != 0 {
			t.Errorf("restart %d: the origin was asked %d times", purged, asked)
		}
		if a, want := n.ask(t, "warm.test", path(purged)),
			fmt.Sprintf("%s %d", path(purged), version.Load()); a.body != want {
			t.Errorf("restart %d: what was purged before it came back: %q, %s; want %q", purged, a.body, a.how, want)
		}
	}
	n.end(t)
}

// flaky is an origin that can fail and be stopped. The path decides what its responses allow.
type flaky struct {
	addr     string
	failing  atomic.Bool
	requests atomic.Int64

	server *httptest.Server // nil while it is stopped
}

func (f *flaky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.requests.Add(1)
	if f.failing.Load() {
		http.Error(w, "broken", http.StatusInternalServerError)
		return
	}
	w.Header().Set("ETag", `"1"`)
	w.Header().Set("Cache-Control", map[string]string{
		"/fresh": "max-age=3600", "/stale": "max-age=1", "/must": "max-age=1, must-revalidate",
		"/ready": "max-age=1, stale-if-error=60",
	}[r.URL.Path])
	if r.Header.Get("If-None-Match") == `"1"` {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	_, _ = io.WriteString(w, "good")
}

// come starts the origin, at the same address as before.
func (f *flaky) come(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", f.addr)
	if err != nil {
		t.Fatal(err)
	}
	f.addr = listener.Addr().String()
	f.server = &httptest.Server{Listener: listener, Config: &http.Server{Handler: f, ReadHeaderTimeout: time.Minute}}
	f.server.Start()
}

func (f *flaky) leave() {
	if f.server != nil {
		f.server.CloseClientConnections()
		f.server.Close()
		f.server = nil
	}
}

// When the origin fails or is gone, fresh responses are served, stale ones only if the origin allowed it, and
// Cache-Status says so.
func TestOriginKilled(t *testing.T) {
	origin := &flaky{addr: "127.0.0.1:0"}
	origin.come(t)
	defer origin.leave()
	n := startAlone(t, "http://"+origin.addr, "true", "")
	check := func(when, path string, status int, words ...string) {
		t.Helper()
		a := n.ask(t, "origin.test", path)
		for _, word := range words {
			if !strings.Contains(a.how, word) {
				status = -1 // shown below
			}
		}
		if a.err != nil || a.status != status || (status == http.StatusOK && a.body != "good") {
			t.Errorf("%s: %s got %d %q, %q, %v; want %d and %q", when, path, a.status, a.body, a.how, a.err, status,
				words)
		}
	}
	for _, path := range []string{"/fresh", "/stale", "/must", "/ready"} {
		check("at first", path, http.StatusOK, "fwd=uri-miss", "stored")
	}
	pass(1200*time.Millisecond, time.Minute, func() {}) // until what has max-age=1 is stale
	origin.failing.Store(true)
	check("origin broken", "/fresh", http.StatusOK, "; hit; ttl=35")
	check("origin broken", "/ready", http.StatusOK, "; hit", "ttl=-", "detail=stale-if-error")
	check("origin broken", "/stale", http.StatusInternalServerError, "fwd=stale")
	check("origin broken", "/must", http.StatusInternalServerError, "fwd=stale")
	origin.leave()
	check("origin gone", "/fresh", http.StatusOK, "; hit; ttl=35")
	check("origin gone", "/stale", http.StatusOK, "; hit", "ttl=-", "detail=origin-unreachable")
	check("origin gone", "/ready", http.StatusOK, "; hit", "ttl=-", "detail=origin-unreachable")
	check("origin gone", "/must", http.StatusGatewayTimeout)
	check("origin gone", "/unknown", http.StatusBadGateway)
	origin.failing.Store(false)
	origin.come(t)
	nodetest.Eventually(t, "the origin is asked again", func() bool {
		a := n.ask(t, "origin.test", "/must")
		return a.status == http.StatusOK && a.body == "good" && strings.Contains(a.how, "fwd-status=304")
	})
	n.end(t)
}
