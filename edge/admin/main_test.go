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

// operator is a node that has nothing to tell but its name, and events that never come.
type operator struct{}

func (operator) Status() admin.Status {
	return admin.Status{
		Node:  "n1",
		Ready: true,
	}
}
func (operator) Journal(context.Context) ([]admin.JournalEntry, error)        { return nil, nil }
func (operator) Routes() []edge.RouteInfo                                     { return nil }
func (operator) Explain(string, string, mesh.Header) (e admin.Explanation)    { return e }
func (operator) RouteStats() []edge.RouteStats                                { return nil }
func (operator) RouteRates() []admin.RouteRates                               { return nil }
func (operator) Services(context.Context) (s admin.Services)                  { return s }
func (operator) CallStats() []edge.RouteStats                                 { return nil }
func (operator) MeshStats() []mesh.Stats                                      { return nil }
func (operator) Purge(context.Context, admin.Purge) (p admin.Purged, e error) { return p, e }
func (operator) CacheStats() (s kvcache.Stats, routes []cache.Stats)          { return s, routes }
func (operator) ResetLimit(context.Context, string, string) ([]string, error) { return nil, nil }
func (operator) LimitStats() (s limit.Stats, rules []limit.RuleStats)         { return s, rules }
func (operator) Reload(context.Context) (r admin.Reloaded, e error)           { return r, e }
func (operator) LimitUsage(context.Context, string, string) ([]admin.LimitUsage, error) {
	return nil, nil
}

func (operator) Tail(ctx context.Context, emit func([]byte) bool) error {
	emit([]byte(`{}`))
	<-ctx.Done()
	return nil
}

// start opens the API with that token on a free port until the test ends.
func start(t *testing.T, token string, change func(*admin.Server)) *admin.Server {
	t.Helper()
	var o operator
	n := admin.Node{Status: o, Routes: o, Metrics: o, Purges: o, Limits: o, Reload: o, Tail: o}
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
