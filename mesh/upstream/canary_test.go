package upstream_test

import (
	"strconv"
	"testing"

	"millrace/mesh"
	"millrace/node"
)

// Of 20,000 requests a canary gets its share, and those that a field sends there.
func TestCanary(t *testing.T) {
	all, cfg := apps(t, 200, 200, 200)
	cfg.Targets[2].Canary = true
	cfg.Canary = &node.Canary{Percent: 5, Header: "X-Canary"}
	r := start(t, cfg)
	send := func(n int, header ...mesh.Field) (stable, canary int64) {
		t.Helper()
		stable, canary = all[0].got.Load()+all[1].got.Load(), all[2].got.Load()
		for range n {
			if resp, err := r.do(t, "GET", "/", "", header...); err != nil || resp.Status != 200 {
				t.Fatalf("got %+v, %v", resp, err)
			}
		}
		return all[0].got.Load() + all[1].got.Load() - stable, all[2].got.Load() - canary
	}
	const requests = 20_000
	stable, canary := send(requests)
	if stable+canary != requests || canary < requests*4/100 || canary > requests*6/100 {
		t.Errorf("of %d requests the canary had %d, want 5 %%", requests, canary)
	}
	t.Logf("the canary had %.3f %%", 100*float64(canary)/requests)
	if stable, canary = send(50, mesh.Field{Name: "x-canary", Value: "always"}); stable != 0 || canary != 50 {
		t.Errorf("of 50 requests for the canary it had %d", canary)
	}
	if stable, canary = send(50, mesh.Field{Name: "X-Canary", Value: "never"}); stable != 50 || canary != 0 {
		t.Errorf("of 50 requests that avoid the canary it had %d", canary)
	}
	all[2].status.Store(503)
	stable, _ = send(40, mesh.Field{Name: "X-Canary", Value: "always"})
	if stable != 40 {
		t.Errorf("of 40 requests for a canary that fails %d were answered elsewhere", stable)
	}
}

// What Foresee says is what happens to the request.
func TestForesee(t *testing.T) {
	urls := indexedTargets(t, 5)
	cfg := config(urls...)
	cfg.Targets[4].Canary = true
	cfg.Canary = &node.Canary{Percent: 5, Header: "X-Canary"}
	cfg.Balance = node.Balance{Hash: node.HashHeader, Name: "X-User"}
	r := start(t, cfg)
	foresee := func(header ...mesh.Field) string {
		return r.set.Foresee("api", &mesh.Request{Method: "GET", Target: "/", Header: header})
	}
	never := mesh.Field{Name: "X-Canary", Value: "never"}
	for i := range 20 {
		user := mesh.Field{Name: "X-User", Value: strconv.Itoa(i)}
		resp, err := r.do(t, "GET", "/", "", never, user)
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(string(resp.Body))
		if got := foresee(never, user); err != nil || got != "no canary, "+urls[n]+" by hash:header:X-User" {
			t.Errorf("user %d went to %d, foreseen was %q, %v", i, n, got, err)
		}
	}
	if got := foresee(mesh.Field{Name: "X-Canary", Value: "Always"},
		mesh.Field{Name: "X-User", Value: "1"}); got != "a canary, "+urls[4]+" by hash:header:X-User" {
		t.Errorf("for the canary: %q", got)
	}
	if got := foresee(); got != "a canary for 5 of 100, else any by weight: the request has nothing for "+
		"hash:header:X-User" {
		t.Errorf("without fields: %q", got)
	}
	if got := r.set.Foresee("nobody", &mesh.Request{}); got != "" {
		t.Errorf("of an upstream that isn't there: %q", got)
	}
}
