package natsserver_test

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"

	"millrace/embedded/natsserver"
	"millrace/embedded/natsserver/natsservertest"
	"millrace/mesh"
	"millrace/node/nodetest"
)

// dropProxy forwards connections to an address. After off is set it discards all data and keeps the connections.
type dropProxy struct {
	addr string
	off  atomic.Bool
}

func newDropProxy(t *testing.T, to string) *dropProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &dropProxy{addr: l.Addr().String()}
	var mu sync.Mutex
	var conns []net.Conn
	var passing sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		passing.Wait()
	})
	keep := func(c net.Conn) {
		mu.Lock()
		defer mu.Unlock()
		conns = append(conns, c)
	}
	passing.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			keep(in)
			out, err := net.Dial("tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			keep(out)
			passing.Go(func() { _, _ = io.Copy(h.writerTo(out), in) })
			passing.Go(func() { _, _ = io.Copy(h.writerTo(in), out) })
		}
	})
	return h
}

// writerTo returns a writer to w that discards data after off is set.
func (h *dropProxy) writerTo(w io.Writer) io.Writer {
	return writer(func(b []byte) (int, error) {
		if h.off.Load() {
			return len(b), nil
		}
		return w.Write(b)
	})
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

// A server whose machine vanishes without closing its connections is noticed in seconds.
func TestServerVanishes(t *testing.T) {
	t.Parallel()
	ports := nodetest.FreePorts(t, 2)
	dropProxy := newDropProxy(t, ports[1])
	open := func(i int, peers ...string) *natsserver.Server {
		s, err := natsserver.New(natsserver.Config{
			Name: []string{"n1", "n2"}[i], Dir: t.TempDir(), Listen: "127.0.0.1:0", MemberToken: natsservertest.Token,
			Log: nodetest.Discard(),
			Cluster: &natsserver.Cluster{
				Name: "a", Listen: ports[i], Peers: peers, Token: natsservertest.Token,
				Store: false,
			},
		})
		if err == nil {
			err = s.Open(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	second := open(1)
	first := open(0, dropProxy.addr)
	nodetest.Eventually(t, "they meet", func() bool { return first.Routes() == 1 && second.Routes() == 1 })
	dropProxy.off.Store(true)
	nodetest.Eventually(t, "the second is noticed to be gone", func() bool { return first.Routes() == 0 })
}

// A member whose machine vanishes is noticed in seconds.
func TestMemberVanishes(t *testing.T) {
	t.Parallel()
	s := natsservertest.Start(t)
	dropProxy := newDropProxy(t, s.Addr())
	nc := connect(t, "nats://"+natsservertest.Token+"@"+dropProxy.addr)
	if _, err := nc.QueueSubscribe("http.far", "q", func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan []string, 1)
	s.OnGone(func(subjects []string) { gone <- subjects })
	dropProxy.off.Store(true)
	nodetest.Eventually(t, "it is noticed", func() bool { return !s.Anybody("http.far") })
	if got := <-gone; len(got) != 1 || got[0] != "http.far" {
		t.Errorf("told %q", got)
	}
}

// A node that uses an existing NATS notices that the machine of its server vanished.
func TestServerOfOthersVanishes(t *testing.T) {
	t.Parallel()
	s := natsservertest.Start(t)
	dropProxy := newDropProxy(t, s.Addr())
	user, password := s.NodeCredential()
	c := natsservertest.Connect(t, s, func(cfg *mesh.Config) {
		cfg.InProcess, cfg.User, cfg.Password = nil, "", ""
		cfg.URL = "nats://" + user + ":" + password + "@" + dropProxy.addr
	})
	if !c.Up() {
		t.Fatal("it isn't connected")
	}
	dropProxy.off.Store(true)
	nodetest.Eventually(t, "it is noticed", func() bool { return !c.Up() })
}
