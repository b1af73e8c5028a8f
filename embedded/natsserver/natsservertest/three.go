package natsservertest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"millrace/embedded/natsserver"
)

// FreePorts gives addresses on loopback that nobody listens on, for tests of clusters, whose members must know each
// other's addresses before they start. They aren't of those that the system gives to connections and to listeners
// without a port of their own, who might take one meanwhile.
func FreePorts(tb testing.TB, n int) []string {
	tb.Helper()
	out, err := FindPorts(n)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// FindPorts is FreePorts for those who have no testing.TB.
func FindPorts(n int) ([]string, error) {
	const first, last, tries = 12_000, 32_000, 1000
	var out []string
	for range tries {
		addr := fmt.Sprintf("127.0.0.1:%d", first+rand.IntN(last-first)) //nolint:gosec // G404: any will do
		l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", addr)
		if err != nil {
			continue // somebody has it
		}
		defer l.Close() // all are held until all are known
		if out = append(out, addr); len(out) == n {
			return out, nil
		}
	}
	return nil, fmt.Errorf("%d of %d ports are free", len(out), n)
}

// StartThree runs a cluster of three servers until the test ends, and waits until JetStream is current on each, and all
// of them store.
func StartThree(tb testing.TB) []*natsserver.Server {
	tb.Helper()
	peers := FreePorts(tb, 3)
	out := make([]*natsserver.Server, len(peers))
	for i := range out {
		s, err := natsserver.New(natsserver.Config{
			Name: fmt.Sprintf("n%d", i+1), Dir: tb.TempDir(), Listen: "127.0.0.1:0", MemberToken: Token, Log: Discard(),
			Cluster: &natsserver.Cluster{Name: "test", Listen: peers[i], Peers: peers, Token: Token, Store: true},
		})
		if err == nil {
			err = s.Open(tb.Context())
		}
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() {
			if err := s.Close(); err != nil {
				tb.Error(err)
			}
		})
		out[i] = s
	}
	for i, s := range out {
		Eventually(tb, fmt.Sprintf("JetStream is current on n%d", i+1), func() bool {
			return s.Store() == natsserver.StoreCurrent && s.Routes() == len(out)-1
		})
	}
	place(tb, out)
	return out
}

// place waits until JetStream's leader can place a stream on all servers: it takes them into its group one after
// another, and they are current before.
func place(tb testing.TB, servers []*natsserver.Server) {
	tb.Helper()
	nc, js := JetStream(tb, servers[0])
	defer nc.Close()
	cfg := jetstream.StreamConfig{Name: "PLACED", Subjects: []string{"placed"}, Replicas: len(servers)}
	Eventually(tb, "JetStream places a stream on all servers", func() bool {
		_, err := js.CreateStream(tb.Context(), cfg)
		return err == nil
	})
	if err := js.DeleteStream(tb.Context(), cfg.Name); err != nil {
		tb.Fatal(err)
	}
}
