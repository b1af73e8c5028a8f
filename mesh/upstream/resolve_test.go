package upstream_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"millrace/embedded/natsserver/natsservertest"
	"millrace/mesh/upstream"
	"millrace/node"
	"millrace/node/nodetest"
)

// fakeResolver is a resolver whose answers a test changes.
type fakeResolver struct {
	mu    sync.Mutex
	addrs []string
	err   error
}

func (n *fakeResolver) set(err error, addrs ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addrs, n.err = addrs, err
}

func (n *fakeResolver) LookupNetIP(_ context.Context, _, host string) (out []netip.Addr, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if host != "app.test" {
		return nil, errors.New("asked for " + host)
	}
	for _, a := range n.addrs {
		out = append(out, netip.MustParseAddr(a))
	}
	return out, n.err
}

// Each address of a target's name becomes a target. Targets follow changes of the name, under load and without a failed
// request. They stay when the name can't be resolved.
func TestResolve(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	got := map[string]int{} // by address
	app := &http.Server{
		ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			host, _, _ := net.SplitHostPort(r.Context().Value(http.LocalAddrContextKey).(net.Addr).String())
			mu.Lock()
			defer mu.Unlock()
			got[host]++
		}),
	}
	go func() { _ = app.Serve(l) }()
	defer app.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	dns := &fakeResolver{}
	dns.set(nil, "127.0.0.1", "127.0.0.2", "::1")
	conn := natsservertest.Connect(t, natsservertest.Start(t))
	set, err := upstream.New(upstream.Config{Conn: conn, Log: nodetest.Discard(), Resolver: dns})
	if err != nil {
		t.Fatal(err)
	}
	cfg := config("http://app.test:" + port)
	cfg.Resolve, cfg.Timeout = node.Duration(10*time.Millisecond), node.Duration(2*time.Second)
	if err := set.Apply(t.Context(), map[string]node.Upstream{"api": cfg}); err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	r := &rig{conn, set}
	_, stop := r.sendContinuously(t, 2, "POST", "x", 0)
	defer stop()
	only := func(want ...string) {
		t.Helper()
		nodetest.Eventually(t, "exactly "+strings.Join(want, ", ")+" have requests", func() bool {
			var addrs []string
			for _, target := range set.Status()[0].Targets {
				addrs = append(addrs, target.Address)
			}
			mu.Lock()
			clear(got)
			mu.Unlock()
			<-time.After(20 * time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			for _, w := range want {
				if got[w] == 0 {
					return false
				}
			}
			return len(got) == len(want) && strings.Join(addrs, ",") == strings.Join(want, ",")
		})
	}
	only("127.0.0.1", "127.0.0.2")
	dns.set(nil, "127.0.0.3", "127.0.0.2")
	only("127.0.0.2", "127.0.0.3")
	dns.set(errors.New("no answer"))
	only("127.0.0.2", "127.0.0.3")
	dns.set(nil, "127.0.0.4")
	only("127.0.0.4")
}

// stuckResolver never answers for one name.
type stuckResolver struct{ *fakeResolver }

func (s stuckResolver) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	if host == "hangs.test" {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return s.fakeResolver.LookupNetIP(ctx, network, host)
}

// A name that can't be resolved delays neither the others nor the status.
func TestResolveHangs(t *testing.T) {
	dns := &fakeResolver{}
	dns.set(nil, "127.0.0.1")
	conn := natsservertest.Connect(t, natsservertest.Start(t))
	set, err := upstream.New(upstream.Config{Conn: conn, Log: nodetest.Discard(), Resolver: stuckResolver{dns}})
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	cfg := config("http://hangs.test:1", "http://app.test:2")
	cfg.Resolve = node.Duration(time.Second)
	applied := make(chan error)
	go func() { applied <- set.Apply(t.Context(), map[string]node.Upstream{"api": cfg}) }()
	if len(set.Status()) > 0 { // before the lookup has ended
		t.Error("the upstream is there before its names")
	}
	if err := <-applied; err != nil {
		t.Fatal(err)
	}
	address := func() string { return set.Status()[0].Targets[1].Address }
	if address() != "127.0.0.1" {
		t.Errorf("app.test is at %q", address())
	}
	dns.set(nil, "127.0.0.2")
	nodetest.Eventually(t, "it follows its name", func() bool { return address() == "127.0.0.2" })
}
