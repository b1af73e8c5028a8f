package embedded_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"millrace/node/nodetest"
)

// textLog is a log in memory.
type textLog struct{ nodetest.Output }

func (l *textLog) logger() *slog.Logger { return slog.New(slog.NewJSONHandler(l, nil)) }

// No token appears in log or journal, wherever it was put by mistake; that includes a generated one.
func TestTokensAreNotWrittenDown(t *testing.T) {
	const admin = "token-of-the-operator"
	opts, _ := settings(t, edgeYAML)
	out := &textLog{}
	opts.Log, opts.Config.Admin.Token = out.logger(), admin
	n := open(t, opts)
	made, _, _ := strings.Cut(strings.TrimPrefix(n.ClientURL(), "nats://"), "@")
	if len(made) < 40 {
		t.Fatalf("the node's own token is %q", made)
	}
	ignore := nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})
	nc, err := nats.Connect(n.ClientURL(), nats.Name("worker "+made+" "+admin), ignore)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := nc.Subscribe("http.hello", func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Publish("forbidden."+admin, nil); err != nil {
		t.Fatal(err)
	}
	journal := func() string { return journalOf(t, n) }
	nodetest.Eventually(t, "the refusals are written down", func() bool {
		return strings.Contains(journal(), "member-refused") && strings.Contains(out.String(), "Publish Violation")
	})
	for where, text := range map[string]string{"log": out.String(), "journal": journal()} {
		if strings.Contains(text, made) || strings.Contains(text, admin) {
			t.Errorf("a token is in the %s: %s", where, text)
		}
		if !strings.Contains(text, "worker [secret] [secret]") {
			t.Errorf("the %s doesn't tell where the tokens stood: %s", where, text)
		}
	}
}
