package edge_test

import (
	"context"
	"sync/atomic"
	"testing"

	"millrace/edge/edgetest"
	"millrace/edge/exchange"
	"millrace/mesh"
	"millrace/node"
)

// A panic behind the limit costs its request, and no place.
func TestPanicHoldsNoPlace(t *testing.T) {
	skips := func(l *node.Limit) { l.SkipFailed = true }
	r := edgetest.Start(t, edgetest.Limited(
		edgetest.LimitedRoute("x", edgetest.InFlight(1), edgetest.Per("2/1h", skips))))
	var panics atomic.Bool
	r.Insert("limit", exchange.Policy{Name: "test", Wrap: func(next exchange.Handler) exchange.Handler {
		return func(ctx context.Context, x *exchange.Exchange) (*mesh.Response, error) {
			if panics.Load() {
				panic("secret")
			}
			return next(ctx, x)
		}
	}})
	panics.Store(true)
	for range 5 {
		if resp, body := r.Do(t, "GET", "/x", ""); resp.StatusCode != 500 {
			t.Errorf("got %d %s", resp.StatusCode, body)
		}
	}
	panics.Store(false)
	for i, want := range []int{200, 200, 429} {
		if resp, body := r.Do(t, "GET", "/x", ""); resp.StatusCode != want {
			t.Errorf("request %d: got %d %s, want %d", i+1, resp.StatusCode, body, want)
		}
	}
}
