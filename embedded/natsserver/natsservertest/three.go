package natsservertest

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"millrace/embedded/natsserver"
	"millrace/node/nodetest"
)

// StartThree runs a cluster of three servers until the test ends, and waits until JetStream is current on each, and all
// of them store.
func StartThree(tb testing.TB) []*natsserver.Server {
	tb.Helper()
	peers := nodetest.FreePorts(tb, 3)
	out := make([]*natsserver.Server, len(peers))
	for i := range out {
		s, err := natsserver.New(natsserver.Config{
			Name: fmt.Sprintf("n%d",
				i+1), Dir: tb.TempDir(), Listen: "127.0.0.1:0", MemberToken: Token, Log: nodetest.Discard(),
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
		nodetest.Eventually(tb, fmt.Sprintf("JetStream is current on n%d", i+1), func() bool {
			return s.Store() == natsserver.StoreCurrent && s.Routes() == len(out)-1
		})
	}
	place(tb, out)
	return out
}

// place waits until JetStream's leader can place a stream on all servers. The leader takes them into its group one
// after another, and a server may be current before that.
func place(tb testing.TB, servers []*natsserver.Server) {
	tb.Helper()
	nc, js := JetStream(tb, servers[0])
	defer nc.Close()
	cfg := jetstream.StreamConfig{Name: "PLACED", Subjects: []string{"placed"}, Replicas: len(servers)}
	nodetest.Eventually(tb, "JetStream places a stream on all servers", func() bool {
		_, err := js.CreateStream(tb.Context(), cfg)
		return err == nil
	})
	if err := js.DeleteStream(tb.Context(), cfg.Name); err != nil {
		tb.Fatal(err)
	}
}
