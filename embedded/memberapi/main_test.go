package memberapi_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"millrace/embedded/memberapi"
	"millrace/embedded/natsserver/natsservertest"
	"millrace/kvcache"
	"millrace/kvcache/limit"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, nodetest.IgnoreFasthttp()...) }

// store keeps values in memory forever, and records the TTLs and leases that it was given.
type store struct {
	lease, ttl atomic.Int64

	mu   sync.Mutex // guards kept
	kept map[string][]byte
}

func (s *store) Get(_ context.Context, key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v, ok := s.kept[key]; ok {
		return v, nil
	}
	return nil, kvcache.ErrNotFound
}

func (s *store) GetOrLease(ctx context.Context, key string, lease time.Duration) ([]byte, error) {
	s.lease.Store(int64(lease))
	return s.Get(ctx, key)
}

func (s *store) Set(_ context.Context, key string, value []byte, ttl time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(value) > 100 {
		return kvcache.ErrTooLarge
	}
	s.kept[key] = value
	s.ttl.Store(int64(ttl))
	return nil
}

func (s *store) Delete(_ context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.kept, key)
	return nil
}

// noLimits is a configuration without limits.
type noLimits struct{}

func (noLimits) Rule(string) *limit.Rule               { return nil }
func (noLimits) Key(*limit.Rule, string) (k limit.Key) { return k }

// gatherer answers every gather with the function.
type gatherer func(ctx context.Context, r *node.Route) (*mesh.Response, error)

func (g gatherer) Gather(ctx context.Context, r *node.Route, _ string, _ mesh.Header) (*mesh.Response, error) {
	return g(ctx, r)
}

func (gatherer) FollowPurges(context.Context) error { return nil }

// fixture is a server of the APIs, its mesh, and a member.
type fixture struct {
	api    *memberapi.Server
	conn   *mesh.Conn
	member *nats.Conn
	values *store
}

// start runs the APIs under a configuration until the test ends.
func start(t *testing.T, cfg node.Mesh, gather gatherer) *fixture {
	t.Helper()
	s := natsservertest.Start(t)
	r := &fixture{conn: natsservertest.Connect(t, s), values: &store{kept: map[string][]byte{}}}
	applied := node.Config{Mesh: cfg}
	r.api = memberapi.New(memberapi.Config{
		Conn: r.conn, Values: r.values, Limits: noLimits{}, Gather: gather,
		Applied: func() *node.Config { return &applied }, Log: nodetest.Discard(),
	})
	if err := r.api.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.conn.NATS().Flush(); err != nil { // so that the server knows the subscriptions before the member asks
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.api.Close() })
	member, err := nats.Connect(s.ClientURL(), nats.Name("taker"), nats.CustomInboxPrefix("_INBOX_taker"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(member.Close)
	r.member = member
	return r
}

// ask makes a request as a member.
func (r *fixture) ask(t *testing.T, subject, payload string) string {
	t.Helper()
	msg, err := r.member.Request(subject, []byte(payload), 20*time.Second)
	if err != nil {
		t.Fatalf("%s %s: %v", subject, payload, err)
	}
	return string(msg.Data)
}
