package edgetest

import (
	"log/slog"
	"net/http"
	"testing"

	"millrace/edge"
	"millrace/kvcache"
	"millrace/kvcache/limit"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

// Rig is an edge that listens on a free port of the loopback, with a mesh and two services: echo, which answers with
// what it got, and origin, which answers as the test says. It ends with its test.
type Rig struct {
	*edge.Server
	*Origin

	Conn    *mesh.Conn
	Cache   *kvcache.Cache // nil without Config.Cache
	Limiter *limit.Limiter // nil without Config.Limits
	Address string         // host and port
	URL     string         // http:// and the address
	Log     *nodetest.Output

	EndOrigin   func() // ends the service origin
	CloseCache  func() // closes the cache's NATS server, if it has one of its own
	CloseLimits func() // closes the limiter's NATS server, likewise

	cfg   Config
	store node.CacheStore
	nats  *mesh.Conn // of the cache
}

// Start starts a Rig.
func Start(tb testing.TB, cfg Config) *Rig {
	tb.Helper()
	r := &Rig{cfg: cfg, Log: &nodetest.Output{}}
	if cfg.Beside == nil {
		r.startServices(tb)
	} else {
		r.Origin, r.Conn, r.Cache, r.store = cfg.Beside.Origin, cfg.Beside.Conn, cfg.Beside.Cache, cfg.Beside.store
	}
	if cfg.Limits != nil {
		r.openLimiter(tb)
	}
	if cfg.Cache != nil {
		r.store = node.Default().Cache
		r.store.Memory, r.store.Disk = 64*node.MiB, 64*node.MiB
		if cfg.Cache.Store != nil {
			cfg.Cache.Store(&r.store)
		}
		r.connectCache(tb)
		r.openCache(tb)
	}
	r.listen(tb)
	return r
}

// listen makes the edge and opens it.
func (r *Rig) listen(tb testing.TB) {
	tb.Helper()
	settings := node.Default().Edge
	settings.Listen = "127.0.0.1:0"
	if r.cfg.Limits != nil {
		settings.TrustedProxies = Prefixes("127.0.0.0/8")
	}
	if r.cfg.Edge != nil {
		r.cfg.Edge(&settings)
	}
	cfg := edge.Config{
		Node: "n1", ID: "abc", Edge: settings, Routes: r.cfg.Routes, Mesh: r.Conn, Cache: r.Cache, Limits: r.Limiter,
		Store: r.store, Log: slog.New(slog.NewJSONHandler(r.Log, nil)),
	}
	if r.cfg.Sites != nil {
		cfg.Sites = r.cfg.Sites
	}
	s, err := edge.New(cfg)
	if err == nil {
		err = s.Open(tb.Context())
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		if err := s.Close(); err != nil { // which may be for the second time
			tb.Error(err)
		}
	})
	r.Server, r.Address = s, s.Addr().String()
	r.URL = "http://" + r.Address
	if r.Cache != nil {
		nodetest.Eventually(tb, "the purges are followed", r.Cache.Leased)
	}
}
