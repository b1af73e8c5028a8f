package natsserver_test

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"millrace/embedded/natsserver"
	"millrace/embedded/natsserver/natsservertest"
	"millrace/node/nodetest"
)

// While JetStream is reopened, connections stay and members' requests are answered. Afterwards all stored data is
// there.
func TestReopenKeepsConnectionsAndStreams(t *testing.T) {
	alone := natsservertest.Start(t)
	three := natsservertest.StartThree(t)
	for name, servers := range map[string][]*natsserver.Server{"alone": {alone}, "of three": three} {
		t.Run(name, func(t *testing.T) { reopens(t, servers) })
	}
}

func reopens(t *testing.T, servers []*natsserver.Server) {
	t.Helper()
	lost := func(*nats.Conn, error) { t.Error("a connection was lost") }
	nc, js := natsservertest.JetStream(t, servers[0], nats.DisconnectErrHandler(lost))
	defer func() { nc.Opts.DisconnectedErrCB = nil; nc.Close() }()
	cfg := jetstream.StreamConfig{
		Name: "S", Subjects: []string{"s.>"}, Storage: jetstream.FileStorage,
		Replicas: len(servers),
	}
	if _, err := js.CreateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if _, err := js.Publish(t.Context(), fmt.Sprint("s.", i), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range servers {
		if err := s.Reopen(); err != nil {
			t.Fatal(err)
		}
		nodetest.Eventually(t, "JetStream is current", func() bool {
			return s.Store() == natsserver.StoreCurrent
		})
		nodetest.Eventually(t, "it stores", func() bool {
			_, err := js.Publish(t.Context(), "s.more", []byte("x"))
			return err == nil
		})
		stream, err := js.Stream(t.Context(), "S")
		if err != nil {
			t.Fatal(err)
		}
		if n := stream.CachedInfo().State.NumSubjects; n != 101 {
			t.Errorf("%d subjects, want 101", n)
		}
	}
}
