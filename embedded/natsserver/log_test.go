package natsserver_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"millrace/embedded/natsserver"
	"millrace/embedded/natsserver/natsservertest"
	"millrace/node/nodetest"
)

// logged starts a server with a log in memory. It runs until it is closed or the test ends.
func logged(t *testing.T) (*natsserver.Server, *nodetest.Output) {
	t.Helper()
	out := &nodetest.Output{}
	s, err := natsserver.New(natsserver.Config{
		Name: "n1", Dir: t.TempDir(), Listen: "127.0.0.1:0", MemberToken: natsservertest.Token,
		Log: slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err == nil {
		err = s.Open(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, out
}

// A token in the place of a name isn't logged: not whole, not percent-encoded, and not in a malformed line.
func TestTokenIsNotLogged(t *testing.T) {
	const token = natsservertest.Token
	s, out := logged(t)
	var encoded strings.Builder
	for _, c := range []byte(token) {
		fmt.Fprintf(&encoded, "%%%02x", c)
	}
	for name, opts := range map[string][]nats.Option{
		"user":                  {nats.UserInfo(token, "wrong")},
		"user, percent-encoded": {nats.UserInfo(encoded.String(), "wrong")},
		"user, query-encoded":   {nats.UserInfo(url.QueryEscape("a "+token), "wrong")},
		"in a URL":              {nats.UserInfo("nats://"+token+"@host:4222", "wrong")},
	} {
		before := strings.Count(out.String(), "authentication error")
		if nc, err := nats.Connect("nats://"+s.Addr(), opts...); err == nil {
			nc.Close()
			t.Errorf("%s: let in", name)
		}
		nodetest.Eventually(t, "the refusal is logged", func() bool {
			return strings.Count(out.String(), "authentication error") > before
		})
	}
	member := connect(t, s.ClientURL(), nats.Name("member "+token))
	if err := member.Publish("no."+token, nil); err != nil {
		t.Fatal(err)
	}
	nodetest.Eventually(t, "the violation is logged", func() bool {
		return strings.Contains(out.String(), "Publish Violation")
	})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(out.String(), "\n") {
		if strings.Contains(line, token) || strings.Contains(line, encoded.String()) {
			t.Errorf("the token is in the log: %s", line)
		}
	}
}

// A member that keeps publishing what it may not doesn't fill the log: the first lines are written at once, the rest as
// a number.
func TestViolationsDoNotFloodTheLog(t *testing.T) {
	const violations = 5000
	s, out := logged(t)
	member := connect(t, s.ClientURL(), nats.Name("noisy"))
	for i := range violations {
		if err := member.Publish(fmt.Sprintf("forbidden.%d", i), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := member.Flush(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "Publish Violation") {
		t.Error("the first line isn't there at once")
	}
	member.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	n, told := 0, 0
	for line := range strings.SplitSeq(strings.TrimSpace(out.String()), "\n") {
		var l struct {
			Text     string `json:"text"`
			Peer     string `json:"peer"`
			Repeated int    `json:"repeated"`
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if !strings.Contains(l.Text, "Publish Violation") {
			continue
		}
		if l.Peer != "127.0.0.1" {
			t.Fatalf("peer %q in %s", l.Peer, line)
		}
		n++
		told += max(l.Repeated, 1)
	}
	if n > 100 || told != violations {
		t.Errorf("%d lines tell of %d violations, want few lines that tell of %d", n, told, violations)
	}
}

// A client's name with a format directive doesn't make a line long.
func TestNamesAreNoFormats(t *testing.T) {
	s, out := logged(t)
	member := connect(t, s.ClientURL(), nats.Name("%1000000d"))
	if err := member.Publish("forbidden", nil); err != nil {
		t.Fatal(err)
	}
	nodetest.Eventually(t, "the violation is logged", func() bool {
		return strings.Contains(out.String(), "%1000000d") || len(out.String()) > 4096
	})
	if n := len(out.String()); n > 16<<10 {
		t.Errorf("the log has %d bytes", n)
	}
}
