package cache_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"millrace/edge/edgetest"
	"millrace/node/nodetest"
)

// A request that makes the origin hang up takes its URL from nobody else: neither from those who come after it, nor
// from those who waited for its fetch.
func TestRequestThatTheOriginHangsUpOnFailsAlone(t *testing.T) {
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
	r := edgetest.Start(t, edgetest.Cached(nil, edgetest.ToUpstream))
	r.Upstream(t, app.URL)
	for i := range 10 {
		path := "/" + strconv.Itoa(i)
		if s := r.Get(t, path, "X-Crash", "1"); s.StatusCode != 502 {
			t.Fatalf("the request that crashes its handler gave %s", s)
		}
		if s := r.Get(t, path); s.Text != "ok" {
			t.Errorf("the next one gave %s", s)
		}
	}
	crashed := make(chan *edgetest.Seen, 1)
	go func() { crashed <- r.Get(t, "/held", "X-Crash", "1") }()
	<-began
	for _, s := range getAtOnce(t, r, 20, "/held", func() {
		nodetest.Eventually(t, "all are connected", func() bool { return r.Connections() >= 21 })
		close(held)
	}) {
		if s.Text != "ok" {
			t.Errorf("one that waited for it gave %s", s)
		}
	}
	if s := <-crashed; s.StatusCode != 502 {
		t.Errorf("the request that crashes its handler gave %s", s)
	}
}

// An origin whose address nobody listens at isn't asked again for a moment, whoever asks.
func TestOriginThatIsNotThereIsNotAskedAgainForAMoment(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	r := edgetest.Start(t, edgetest.Cached(nil, edgetest.ToUpstream))
	r.Upstream(t, "http://"+l.Addr().String())
	left := 0
	for i := range 20 { // each has a time of its own, which may be next to none
		path := "/" + strconv.Itoa(i)
		r.Get(t, path)
		if s := r.Get(t, path, "X-Other", "1"); s.StatusCode != 502 {
			t.Errorf("got %s", s)
		} else if strings.Contains(s.Text, "a moment ago") {
			left++
		}
	}
	if left == 0 {
		t.Error("it was asked each time")
	}
}
