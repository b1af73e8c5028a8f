// Package natsservertest starts embedded NATS servers for tests.
package natsservertest

import (
	"log/slog"
	"testing"

	"millrace/embedded/natsserver"
	"millrace/mesh"
)

// Token is the member token of the servers started here.
const Token = "token-for-tests-only"

// Start runs a server on a free port until the test ends.
func Start(tb testing.TB) *natsserver.Server {
	tb.Helper()
	s, err := natsserver.New(natsserver.Config{
		Name: "n1", Dir: tb.TempDir(), Listen: "127.0.0.1:0", MemberToken: Token, Log: Discard(),
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

// Connect opens a mesh connection with the node's credential until the test ends.
func Connect(tb testing.TB, s *natsserver.Server, change ...func(*mesh.Config)) *mesh.Conn {
	tb.Helper()
	user, password := s.NodeCredential()
	cfg := mesh.Config{Name: "n1", InProcess: s, User: user, Password: password, Interest: s, Log: Discard()}
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
	return c
}

// Discard is a logger that nobody reads.
func Discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
