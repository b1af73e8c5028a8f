package natsserver_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"millrace/embedded/natsserver"
	"millrace/node/nodetest"
)

// A server doesn't start if another of the cluster has its name: that one would be removed from JetStream's groups. Its
// directory stays usable under another name.
func TestNameInUse(t *testing.T) {
	peers, ports := nodetest.FreePorts(t, 3), nodetest.FreePorts(t, 1)
	var servers []*natsserver.Server
	for i, addr := range peers {
		cluster := &natsserver.Cluster{Name: "a", Listen: addr, Peers: peers, Store: true}
		s := clustered(t, fmt.Sprintf("n%d", i+1), t.TempDir(), cluster)
		if err := s.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		servers = append(servers, s)
	}
	current := func() bool {
		return !slices.ContainsFunc(servers, func(s *natsserver.Server) bool {
			return s.Store() != natsserver.StoreCurrent
		})
	}
	nodetest.Eventually(t, "the cluster is current", current)
	var terms []uint64
	for _, s := range servers {
		terms = append(terms, s.Term())
	}
	dir := t.TempDir()
	newcomer := &natsserver.Cluster{Name: "a", Listen: ports[0], Peers: peers, Store: true}
	err := clustered(t, "n1", dir, newcomer).Open(t.Context())
	if !errors.Is(err, natsserver.ErrNameInUse) || !strings.Contains(err.Error(), "another node is named n1") ||
		!strings.Contains(err.Error(), "set node.name") {
		t.Fatalf("got %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "mode")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is marked: %v", err)
	}
	for i, s := range servers {
		if now := s.Term(); now != terms[i] || s.Routes() != 2 {
			t.Errorf("n%d: term %d became %d, with %d routes", i+1, terms[i], now, s.Routes())
		}
	}
	nodetest.Eventually(t, "the cluster is current still", current) // a follower may lag for a moment
	if err := servers[0].Close(); err != nil {
		t.Fatal(err)
	}
	if err := servers[0].Open(t.Context()); err != nil { // the server's own name is free
		t.Fatal(err)
	}
}

// Peers that are down, or are something else than NATS, don't prevent a start.
func TestUnreachablePeersDontPreventStart(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "SSH-2.0-x\r\n")
			_ = c.Close()
		}
	}()
	ports := nodetest.FreePorts(t, 2)
	s := clustered(t, "n1", t.TempDir(), &natsserver.Cluster{
		Name: "a", Listen: ports[0], Peers: []string{ports[0], ports[1], l.Addr().String()}, Store: true,
	})
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	nodetest.Eventually(t, "both are missing", func() bool {
		return slices.Equal(s.Missing(), []string{ports[1], l.Addr().String()})
	})
}

// At the first start two servers of three elect no leader. They report that, and which one is missing.
func TestFirstStartNeedsAll(t *testing.T) {
	peers := nodetest.FreePorts(t, 3)
	var servers []*natsserver.Server
	open := func(i int) {
		cluster := &natsserver.Cluster{Name: "a", Listen: peers[i], Peers: peers, Store: true}
		s := clustered(t, fmt.Sprintf("n%d", i+1), t.TempDir(), cluster)
		if err := s.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		servers = append(servers, s)
	}
	open(0)
	open(1)
	for i, s := range servers {
		nodetest.Eventually(t, fmt.Sprintf("n%d misses n3 alone", i+1), func() bool {
			st := s.JetStreamState()
			return slices.Equal(s.Missing(), peers[2:]) && st.Empty && st.Leader == "" &&
				st.Store == natsserver.StoreJoining
		})
	}
	open(2)
	for i, s := range servers {
		nodetest.Eventually(t, fmt.Sprintf("n%d is current", i+1), func() bool {
			st := s.JetStreamState()
			return st.Store == natsserver.StoreCurrent && !st.Empty && len(s.Missing()) == 0
		})
	}
}

func FuzzGreeting(f *testing.F) {
	f.Add([]byte(`INFO {"server_id":"NA","server_name":"n1","port":6222}` + "\r\n"))
	f.Add([]byte("SSH-2.0-x\r\n"))
	f.Fuzz(func(t *testing.T, line []byte) {
		if name := natsserver.GreetingName(line); name != "" && !strings.HasPrefix(string(line), "INFO ") {
			t.Errorf("%q names %q", line, name)
		}
	})
}
