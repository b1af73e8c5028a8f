package edge_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"millrace/node"
	"millrace/node/nodetest"
)

// toUpstream makes the rig's route lead to the upstream app.
func toUpstream(s *cacheSetup) { s.routes[0].To = node.Target{Kind: node.KindUpstream, Name: "app"} }

// A request that makes the origin hang up takes its URL from nobody else: neither from those who come after it, nor
// from those who waited for its fetch.
func TestCacheRequestThatOriginHangsUpOn(t *testing.T) {
	held := make(chan struct{})
	began := make(chan struct{}, 1)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("X-Crash") != "" {
			if req.URL.Path == "/held" {
				began <- struct{}{}
				<-held
			}
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Cache-Control", "max-age=1")
		_, _ = io.WriteString(w, "ok")
	}))
	defer app.Close()
	r := startCache(t, nil, toUpstream)
	r.upstream(t, app.URL)
	for i := range 10 {
		path := "/" + strconv.Itoa(i)
		if s := r.get(t, path, "X-Crash", "1"); s.StatusCode != 502 {
			t.Fatalf("the request that crashes its handler gave %s", s)
		}
		if s := r.get(t, path); s.body != "ok" {
			t.Errorf("the next one gave %s", s)
		}
	}
	crashed := make(chan *seen, 1)
	go func() { crashed <- r.get(t, "/held", "X-Crash", "1") }()
	<-began
	for _, s := range r.crowd(t, 20, "/held", func() {
		nodetest.Eventually(t, "all are connected", func() bool { return r.Connections() >= 21 })
		close(held)
	}) {
		if s.body != "ok" {
			t.Errorf("one that waited for it gave %s", s)
		}
	}
	if s := <-crashed; s.StatusCode != 502 {
		t.Errorf("the request that crashes its handler gave %s", s)
	}
}

// An origin whose address nobody listens at isn't asked again for a moment, whoever asks.
func TestCacheOriginThatIsNotThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	r := startCache(t, nil, toUpstream)
	r.upstream(t, "http://"+l.Addr().String())
	left := 0
	for i := range 20 { // each has a time of its own, which may be next to none
		path := "/" + strconv.Itoa(i)
		r.get(t, path)
		if s := r.get(t, path, "X-Other", "1"); s.StatusCode != 502 {
			t.Errorf("got %s", s)
		} else if strings.Contains(s.body, "a moment ago") {
			left++
		}
	}
	if left == 0 {
		t.Error("it was asked each time")
	}
}
