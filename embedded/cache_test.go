package embedded_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"millrace/embedded/embeddedtest"
)

// A node whose clock is ahead of an origin's can't cache its responses. The response and the status say so.
func TestClockAheadOfOriginIsReported(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
		w.Header().Set("Cache-Control", "max-age=600")
		fmt.Fprint(w, "hello")
	}))
	defer app.Close()
	opts, _ := settings(t, embeddedtest.YAML(t, `
		edge:
		  listen: 127.0.0.1:0
		upstreams:
		  app:
		    targets: [$APP]
		routes:
		  - path: /*
		    to: upstream:app
		    cache: true
		`, "APP", app.URL))
	n := open(t, opts)
	if all := strings.Join(n.Status().Degraded, "\n"); strings.Contains(all, "clock") {
		t.Errorf("before any request: %q", all)
	}
	for range 2 {
		resp, err := http.Get(n.EdgeURL())
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if how := resp.Header.Get("Cache-Status"); !strings.Contains(how, "detail=clock-ahead") {
			t.Errorf("Cache-Status %q", how)
		}
	}
	all := strings.Join(n.Status().Degraded, "\n")
	about := strings.Contains(all, "1h0m") || strings.Contains(all, "59m5")
	if !strings.Contains(all, "ahead of the Date of upstream:app") || !about {
		t.Errorf("degraded: %q", all)
	}
}
