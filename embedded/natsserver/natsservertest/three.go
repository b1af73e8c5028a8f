package natsservertest

import (
	"fmt"
	"net"
	"testing"

	"millrace/embedded/natsserver"
)

// FreePorts gives addresses on loopback that nobody listens on. Somebody else may take one before it is used, which is
// rare enough for tests of clusters, whose members must know each other's addresses before they start.
func FreePorts(tb testing.TB, n int) []string {
	tb.Helper()
	out := make([]string, n)
	for i := range out {
		l, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		defer l.Close() // all are held until all are known
		out[i] = l.Addr().String()
	}
	return out
}

// StartThree runs a cluster of three servers until the test ends, and waits until JetStream is current on each.
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
		Eventually(tb, fmt.Sprintf("JetStream is current on n%d", i+1), func() bool { return s.Store() == natsserver.StoreCurrent && s.Routes() == len(out)-1 })
	}
	return out
}
