package natsserver_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"millrace/embedded/natsserver"
	"millrace/embedded/natsserver/natsservertest"
	"millrace/mesh"
	"millrace/node/nodetest"
)

func clustered(tb testing.TB, name, dir string, cluster *natsserver.Cluster) *natsserver.Server {
	tb.Helper()
	s, err := natsserver.New(natsserver.Config{
		Name: name, Dir: dir, Listen: "127.0.0.1:0",
		MemberToken: natsservertest.Token, Log: nodetest.Discard(), Cluster: cluster,
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

// Without a fixed port nats-server would run without the cluster, and JetStream would stand alone in the cluster's
// directory. New refuses such an address; if it gets past New, the server doesn't start.
func TestClusterNeedsPort(t *testing.T) {
	peers := nodetest.FreePorts(t, 1)
	cfg := natsserver.Config{
		Name: "n1", Dir: t.TempDir(), Listen: "127.0.0.1:0", MemberToken: natsservertest.Token,
		Log: nodetest.Discard(),
	}
	for _, listen := range []string{"127.0.0.1:0", "127.0.0.1:00", ":0", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1"} {
		cfg.Cluster = &natsserver.Cluster{Name: "a", Listen: listen, Peers: peers, Store: true}
		if _, err := natsserver.New(cfg); err == nil {
			t.Errorf("%s: accepted", listen)
		}
	}
	c := &natsserver.Cluster{Name: "a", Listen: peers[0], Peers: peers, Store: true}
	s := clustered(t, "n1", t.TempDir(), c)
	c.Listen = "127.0.0.1:0" // after New has checked it
	if err := s.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "clustered JetStream: false") {
		t.Errorf("it stands alone: %v", err)
	}
	if s.Store() != natsserver.StoreDisabled {
		t.Errorf("JetStream is %s", s.Store())
	}
}

// A service on one node is reachable through all, and what is stored on three survives the loss of one.
func TestClusterSurvivesLossOfOne(t *testing.T) {
	servers := natsservertest.StartThree(t)
	conns := make([]*mesh.Conn, len(servers))
	for i, s := range servers {
		conns[i] = natsservertest.Connect(t, s, func(c *mesh.Config) { c.Name = fmt.Sprintf("n%d", i+1) })
	}
	member := connect(t, servers[2].ClientURL())
	if _, err := member.QueueSubscribe("http.hello", "q", func(m *nats.Msg) {
		_ = m.Respond([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"))
	}); err != nil {
		t.Fatal(err)
	}
	for i, c := range conns {
		nodetest.Eventually(t, fmt.Sprintf("the member is reachable through n%d", i+1), func() bool {
			resp, err := c.Do(t.Context(), c.Service("hello"),
				&mesh.Request{Method: "GET", Target: "/", Host: "h", Deadline: time.Now().Add(5 * time.Second)})
			return err == nil && string(resp.Body) == "hi"
		})
	}
	js, err := conns[0].NATS().JetStream()
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.CreateKeyValue(&nats.KeyValueConfig{Bucket: "b", Replicas: 3, Storage: nats.FileStorage})
	if err == nil {
		_, err = kv.PutString("k", "kept")
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := servers[1].Close(); err != nil {
		t.Fatal(err)
	}
	nodetest.Eventually(t, "the bucket is written with two of three", func() bool {
		_, err := kv.PutString("k2", "written")
		return err == nil
	})
	if e, err := kv.Get("k"); err != nil || string(e.Value()) != "kept" {
		t.Errorf("got %v, %v", e, err)
	}
	if err := servers[1].Open(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	nodetest.Eventually(t, "n2 is current again", func() bool {
		return servers[1].Store() == natsserver.StoreCurrent
	})
}

// Nodes without the cluster's token can't join.
func TestClusterToken(t *testing.T) {
	ports := nodetest.FreePorts(t, 2)
	open := func(i int, token string) *natsserver.Server {
		s := clustered(t, fmt.Sprintf("n%d", i+1), t.TempDir(),
			&natsserver.Cluster{Name: "a", Listen: ports[i], Peers: ports, Token: token, Store: true})
		if err := s.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := open(0, "0123456789abcdef")
	second := open(1, "0123456789abcdeX")
	nodetest.Eventually(t, "the wrong token's connection has ended", func() bool { return second.Routes() == 0 })
	if first.Store() != natsserver.StoreJoining {
		t.Errorf("store %s", first.Store())
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	third := open(1, "0123456789abcdef")
	nodetest.Eventually(t, "the right token gets in", func() bool {
		return first.Routes() == 1 && third.Routes() == 1
	})
}

// A member that subscribes in a wrong queue group, or in none, is refused, and the refusal names it.
func TestRefusals(t *testing.T) {
	var got atomic.Pointer[natsserver.Refusal]
	s, err := natsserver.New(natsserver.Config{
		Name: "n1", Dir: t.TempDir(), Listen: "127.0.0.1:0", MemberToken: natsservertest.Token,
		Log:     nodetest.Discard(),
		Refused: func(r natsserver.Refusal) { got.Store(&r) },
	})
	if err == nil {
		err = s.Open(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	member := connect(t, s.ClientURL(), nats.Name("wörker \"7\""))
	for _, queue := range []string{"workers", ""} {
		got.Store(nil)
		if _, err := member.QueueSubscribeSync("http.hello", queue); err != nil {
			t.Fatal(err)
		}
		nodetest.Eventually(t, "the refusal is told", func() bool { return got.Load() != nil })
		if r := got.Load(); r.Subject != "http.hello" || r.Queue != queue || !strings.Contains(r.Member, "rker") {
			t.Errorf("got %+v", r)
		}
	}
}
