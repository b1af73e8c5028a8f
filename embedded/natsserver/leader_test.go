package natsserver_test

import (
	"context"
	"testing"
	"time"

	"millrace/embedded/natsserver"
	"millrace/embedded/natsserver/natsservertest"
	"millrace/node/nodetest"
)

// JetStream isn't current on a server that knows no leader: after a cold start until one is elected, and when the other
// servers are gone. Data in the server's own directory doesn't change that.
func TestCurrentNeedsLeader(t *testing.T) {
	servers := natsservertest.StartThree(t)
	for i, s := range servers {
		var st natsserver.JetStreamState
		nodetest.Eventually(t, "all that is decided is applied", func() bool {
			st = s.JetStreamState()
			return st.Store == natsserver.StoreCurrent
		})
		if st.Leader == "" || st.Heard > 3*time.Second {
			t.Errorf("n%d: %+v", i+1, st)
		}
	}
	for _, s := range servers {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	ctx := context.WithoutCancel(t.Context())
	if err := servers[0].Open(ctx); err != nil {
		t.Fatal(err)
	}
	never(t, "JetStream is current on a server that is alone", func() bool {
		return servers[0].Store() == natsserver.StoreCurrent
	})
	if err := servers[1].Open(ctx); err != nil {
		t.Fatal(err)
	}
	for i, s := range servers[:2] {
		nodetest.Eventually(t, "JetStream is current on two of three", func() bool {
			return s.Store() == natsserver.StoreCurrent
		})
		if st := s.JetStreamState(); st.Leader != "n1" && st.Leader != "n2" {
			t.Errorf("n%d: %+v", i+1, st)
		}
	}
	if err := servers[1].Close(); err != nil { // a leader or a follower
		t.Fatal(err)
	}
	nodetest.Eventually(t, "JetStream isn't current without a majority", func() bool {
		return servers[0].Store() == natsserver.StoreJoining
	})
	never(t, "JetStream is current without a majority", func() bool {
		return servers[0].Store() == natsserver.StoreCurrent
	})
}

// never checks for two seconds that the condition doesn't become true.
func never(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ends := time.After(2 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ends:
			return
		}
		if condition() {
			t.Fatalf("it came true: %s", what)
		}
	}
}
