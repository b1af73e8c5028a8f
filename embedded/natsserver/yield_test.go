package natsserver_test

import (
	"testing"

	"github.com/nats-io/nats.go"

	"millrace/embedded/natsserver/natsservertest"
	"millrace/mesh"
	"millrace/node/nodetest"
)

// A server that leads a stream gives it up to another; one that doesn't changes nothing.
func TestYieldStream(t *testing.T) {
	servers := natsservertest.StartThree(t)
	js, err := natsservertest.Connect(t, servers[0], func(c *mesh.Config) { c.Name = "n1" }).NATS().JetStream()
	if err != nil {
		t.Fatal(err)
	}
	nodetest.Eventually(t, "the stream is there", func() bool { // the leader may not have heard from all peers yet
		_, err := js.AddStream(&nats.StreamConfig{Name: "S", Subjects: []string{"s.>"}, Replicas: 3})
		return err == nil
	})
	leader := func() (name string) {
		nodetest.Eventually(t, "the stream has a leader", func() bool {
			info, err := js.StreamInfo("S")
			if err == nil && info.Cluster != nil {
				name = info.Cluster.Leader
			}
			return name != ""
		})
		return name
	}
	first := leader()
	for i, s := range servers {
		if name := []string{"n1", "n2", "n3"}[i]; name != first {
			if err := s.YieldStream("S"); err != nil {
				t.Error(err)
			}
		}
	}
	if now := leader(); now != first {
		t.Errorf("%s leads in the place of %s, which hasn't yielded", now, first)
	}
	for i, s := range servers {
		if name := []string{"n1", "n2", "n3"}[i]; name == first {
			if err := s.YieldStream("S"); err != nil {
				t.Error(err)
			}
		}
	}
	nodetest.Eventually(t, "another leads", func() bool { return leader() != first })
	if err := servers[0].YieldStream("none"); err != nil {
		t.Errorf("a stream that there isn't: %v", err)
	}
}
