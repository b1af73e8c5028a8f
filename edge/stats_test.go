package edge_test

import (
	"slices"
	"testing"

	"millrace/edge"
	"millrace/edge/edgetest"
)

// The longest latency of a route is known for two spans, and then forgotten.
func TestStatsKnowTheLongestLatency(t *testing.T) {
	r := edgetest.Start(t, edgetest.Routed(edgetest.EchoRoute("/a")))
	peak := func() edge.RouteStats {
		list := r.Stats()
		return list[slices.IndexFunc(list, func(s edge.RouteStats) bool { return s.Classes[2] > 0 })]
	}
	r.Do(t, "GET", "/a", "")
	first := peak()
	if first.Peak <= 0 || first.Peak != first.Sum {
		t.Errorf("of one request: %+v", first)
	}
	r.TurnPeaks()
	if got := peak(); got.Peak != first.Peak {
		t.Errorf("in the next span: %+v", got)
	}
	r.TurnPeaks()
	if got := peak(); got.Peak != 0 || got.Sum != first.Sum {
		t.Errorf("after two spans: %+v", got)
	}
}
