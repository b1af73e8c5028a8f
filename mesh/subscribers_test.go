package mesh_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/nats-io/nats.go"

	"millrace/embedded/natsserver/natsservertest"
	"millrace/mesh"
)

// Census finds the members of every service on every server, and nobody else.
func TestCensus(t *testing.T) {
	servers := natsservertest.StartThree(t)
	conn := natsservertest.Connect(t, servers[0])
	own, err := conn.NewService(mesh.ServiceConfig{Destination: conn.Service("own"), Handler: mesh.HandlerFunc(nil)})
	if err == nil {
		err = own.Open(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = own.Close() })
	for i, s := range servers[1:] {
		nc, err := nats.Connect(s.ClientURL(), nats.Name(fmt.Sprintf("greeter %d", i)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		for _, subject := range []string{"http.greet", "http.greet.stream", "event.http.>"} {
			queue := "q"
			if subject == "event.http.>" {
				queue = ""
			}
			if _, err := nc.QueueSubscribeSync(subject, queue); err != nil {
				t.Fatal(err)
			}
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	for _, known := range []int{3, 0} {
		found, err := conn.Census(t.Context(), known)
		if err != nil {
			t.Fatal(err)
		}
		if len(found) != 2 || len(found["own"]) != 1 || found["own"][0].Server != "n1" {
			t.Errorf("%d servers: found %+v", known, found)
		}
		var names []string
		for _, m := range found["greet"] {
			names = append(names, m.Server+" "+m.Name+" "+m.Lang)
			if m.Addr == "" {
				t.Errorf("a member without an address: %+v", m)
			}
		}
		if want := []string{"n2 greeter 0 go", "n3 greeter 1 go"}; !slices.Equal(names, want) {
			t.Errorf("%d servers: greet has %q, want %q", known, names, want)
		}
	}
}

// More members than fit a message are all found, also from a single server.
func TestCensusOfManyMembers(t *testing.T) {
	s := natsservertest.Start(t)
	conn := natsservertest.Connect(t, s)
	const members = 300
	for range members {
		nc, err := nats.Connect(s.ClientURL())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		if _, err := nc.QueueSubscribeSync("http.many", "q"); err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	found, err := conn.Census(t.Context(), 1)
	if err != nil || len(found["many"]) != members {
		t.Errorf("found %d members of %d, %v", len(found["many"]), members, err)
	}
}
