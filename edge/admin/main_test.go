package admin_test

import (
	"context"
	"log/slog"
	"testing"

	"go.uber.org/goleak"

	"millrace/edge"
	"millrace/edge/admin"
	"millrace/edge/cache"
	"millrace/kvcache"
	"millrace/kvcache/limit"
	"millrace/mesh"
	"millrace/node"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const token = "0123456789abcdef"

// fakeNode is a node with a name, one event and no other data.
type fakeNode struct{}

func (fakeNode) Status() admin.Status {
	return admin.Status{
		Node:  "n1",
		Ready: true,
	}
}
func (fakeNode) Journal(context.Context) ([]admin.JournalEntry, error)        { return nil, nil }
func (fakeNode) Routes() []edge.RouteInfo                                     { return nil }
func (fakeNode) Explain(string, string, mesh.Header) (e admin.Explanation)    { return e }
func (fakeNode) RouteStats() []edge.RouteStats                                { return nil }
func (fakeNode) RouteRates() []admin.RouteRates                               { return nil }
func (fakeNode) Services(context.Context) (s admin.Services)                  { return s }
func (fakeNode) CallStats() []edge.RouteStats                                 { return nil }
func (fakeNode) MeshStats() []mesh.Stats                                      { return nil }
func (fakeNode) Purge(context.Context, admin.Purge) (p admin.Purged, e error) { return p, e }
func (fakeNode) CacheStats() (s kvcache.Stats, routes []cache.Stats)          { return s, routes }
func (fakeNode) ResetLimit(context.Context, string, string) ([]string, error) { return nil, nil }
func (fakeNode) LimitStats() (s limit.Stats, rules []limit.RuleStats)         { return s, rules }
func (fakeNode) Reload(context.Context) (r admin.Reloaded, e error)           { return r, e }
func (fakeNode) LimitUsage(context.Context, string, string) ([]admin.LimitUsage, error) {
	return nil, nil
}

func (fakeNode) Tail(ctx context.Context, emit func([]byte) bool) error {
	emit([]byte(`{}`))
	<-ctx.Done()
	return nil
}

// start opens the API of a fakeNode with that token, on a free port, until the test ends.
func start(t *testing.T, token string, change func(*admin.Server)) *admin.Server {
	t.Helper()
	var o fakeNode
	n := admin.Node{Status: o, Routes: o, Metrics: o, Purges: o, Limits: o, Reload: o, Tail: o, Sites: o}
	return serve(t, n, token, change)
}

// serve opens the API of a node as start does.
func serve(t *testing.T, n admin.Node, token string, change func(*admin.Server)) *admin.Server {
	t.Helper()
	s := admin.New(node.Admin{Listen: "127.0.0.1:0", Token: token}, n, slog.New(slog.DiscardHandler))
	if change != nil {
		change(s)
	}
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
