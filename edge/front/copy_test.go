package front_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"millrace/edge/exchange"
	"millrace/edge/front"
)

// Concurrent requests never see each other's bytes. Exchanges are kept after their handlers have returned, while
// hundreds of other requests reuse Fiber's memory. They must still be what their clients sent.
func TestRequestsKeepTheirStringsAndBodies(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var kept []*exchange.Exchange
	app := front.Keep(l, func(x *exchange.Exchange) {
		mu.Lock()
		defer mu.Unlock()
		kept = append(kept, x)
	})
	defer func() { _ = app.Shutdown() }()
	var wg sync.WaitGroup
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	defer client.CloseIdleConnections()
	for i := range 16 {
		wg.Go(func() {
			for j := range 100 {
				id := fmt.Sprintf("%02d-%03d", i, j)
				req, _ := http.NewRequestWithContext(t.Context(), "POST", "http://"+l.Addr().String()+"/"+id,
					strings.NewReader("body "+id))
				req.Header.Set("X-Id", id)
				resp, err := client.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	for _, x := range kept {
		id := x.Target[1:]
		if x.Header.Get("X-Id") != id || string(x.Body) != "body "+id || x.Method != "POST" {
			t.Fatalf("request %s became %s with body %q", id, x.Header.Get("X-Id"), x.Body)
		}
		seen[id] = true
	}
	if len(seen) != 1600 {
		t.Errorf("%d different requests were kept, want 1600", len(seen))
	}
}
