package upstream_test

import (
	"testing"

	"millrace/mesh"
	"millrace/node"
)

// Of 20,000 requests a canary gets its share, and what a field decides.
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
