package natsservertest

import (
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"millrace/embedded/natsserver"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

// Token is the member token of the servers started here.
const Token = "token-for-tests-only"

// Start runs a server on a free port until the test ends.
func Start(tb testing.TB) *natsserver.Server {
	tb.Helper()
	s, err := natsserver.New(natsserver.Config{
		Name: "n1", Dir: tb.TempDir(), Listen: "127.0.0.1:0", MemberToken: Token, Log: nodetest.Discard(),
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
	return s
}

// Local is the mesh.local of the connections that Connect makes, so that whole tests can run over either carrier. Tests
// that change it must not run in parallel.
var Local = node.LocalAuto

// Connect opens a mesh connection with the node's credential until the test ends.
func Connect(tb testing.TB, s *natsserver.Server, change ...func(*mesh.Config)) *mesh.Conn {
	tb.Helper()
	user, password := s.NodeCredential()
	cfg := mesh.Config{
		Local: Local, Name: "n1", InProcess: s, User: user, Password: password, Interest: s,
		Log: nodetest.Discard(),
	}
	for _, f := range change {
		f(&cfg)
	}
	c, err := mesh.New(cfg)
	if err == nil {
		err = c.Open(tb.Context())
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := c.Close(); err != nil {
			tb.Error(err)
		}
	})
	s.OnGone(c.MembersGone)
	return c
}

// JetStream opens a plain connection with the node's credential, inside the process. The caller closes it.
func JetStream(tb testing.TB, s *natsserver.Server, opts ...nats.Option) (*nats.Conn, jetstream.JetStream) {
	tb.Helper()
	user, password := s.NodeCredential()
	nc, err := nats.Connect("", append(opts, nats.InProcessServer(s), nats.UserInfo(user, password))...)
	if err != nil {
		tb.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		tb.Fatal(err)
	}
	return nc, js
}
