package natsservertest

import (
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"millrace/embedded/natsserver"
	"millrace/mesh"
	"millrace/node"
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

// Local is the mesh.local of the connections that Connect makes. Tests that change it run alone.
var Local = node.LocalAuto //nolint:gochecknoglobals // so that whole tests run over either carrier

// Connect opens a mesh connection with the node's credential until the test ends.
func Connect(tb testing.TB, s *natsserver.Server, change ...func(*mesh.Config)) *mesh.Conn {
	tb.Helper()
	user, password := s.NodeCredential()
	cfg := mesh.Config{
		Local: Local, Name: "n1", InProcess: s, User: user, Password: password, Interest: s,
		Log: Discard(),
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

// JetStream opens a plain connection with the node's credential, within the process. The caller closes it.
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

// Discard is a logger that nobody reads.
func Discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// patience is how long Eventually waits: far beyond what any condition needs on a busy machine.
const patience = 30 * time.Second

// Eventually waits for cond, which other goroutines or processes make true, and ends the test if it never does.
func Eventually(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			tb.Fatalf("never came true: %s", what)
		}
	}
}

// IgnoreFasthttp are the goroutines of fasthttp that outlive its servers: a clock for the Date field, and the cleaner
// of a stopped worker pool, which sleeps for up to ten seconds before it sees that it is stopped.
func IgnoreFasthttp() []goleak.Option {
	return []goleak.Option{
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/gofiber/fiber/v2/utils.StartTimeStampUpdater.func1.1"),
	}
}
