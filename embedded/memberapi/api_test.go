package memberapi_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

const oneCall = `{"calls": {"a": {"to": "service:billing", "path": "/"}}}`

// A panic is reported to the member that caused it, and the API keeps serving.
func TestPanicIsContained(t *testing.T) {
	var asked atomic.Int64
	r := start(t, node.Mesh{}, func(context.Context, *node.Route) (*mesh.Response, error) {
		if asked.Add(1) == 1 {
			panic("of a test")
		}
		return &mesh.Response{Status: 200, Body: []byte("plain")}, nil
	})
	if got := r.ask(t, "api.gather", oneCall); !strings.Contains(got, `"code":"internal"`) ||
		strings.Contains(got, "of a test") {
		t.Errorf("got %s", got)
	}
	if got := r.ask(t, "api.gather", oneCall); got != `{"status":200,"body":"plain"}` {
		t.Errorf("got %s", got)
	}
}

// The running requests of one API are bounded, whatever they wait for. Other APIs don't count. Close ends them.
func TestRequestsAreBounded(t *testing.T) {
	const most = 1024
	running := make(chan struct{}, most)
	r := start(t, node.Mesh{}, func(ctx context.Context, _ *node.Route) (*mesh.Response, error) {
		running <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	})
	inbox := r.member.NewRespInbox()
	answers, err := r.member.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	for range most {
		if err := r.member.PublishRequest("api.gather", inbox, []byte(oneCall)); err != nil {
			t.Fatal(err)
		}
	}
	nodetest.Eventually(t, "all run", func() bool { return len(running) == most })
	if got := r.ask(t, "api.gather", oneCall); !strings.Contains(got, `"code":"busy"`) {
		t.Errorf("one more got %s", got)
	}
	if got := r.ask(t, "api.cache.get", `{"key": "a"}`); got != `{"found":false}` {
		t.Errorf("another API answers %s", got)
	}
	for range 2 {
		if err := r.api.Close(); err != nil {
			t.Error(err)
		}
	}
	if len(running) != most {
		t.Errorf("%d requests ran", len(running))
	}
	nodetest.Eventually(t, "all are answered", func() bool {
		n, _, err := answers.Pending()
		return err == nil && n == most
	})
	_, err = r.member.Request("api.gather", []byte(oneCall), 20*time.Second)
	if !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("a closed API answers: %v", err)
	}
}

// A request whose reply subject isn't an inbox is ignored.
func TestRepliesGoToInboxesOnly(t *testing.T) {
	r := start(t, node.Mesh{}, nil)
	for _, reply := range []string{"", "millrace.members", "http.other"} {
		msg := &nats.Msg{Subject: "api.cache.set", Reply: reply, Data: []byte(`{"key": "a", "value": 1}`)}
		if err := r.member.PublishMsg(msg); err != nil {
			t.Fatal(err)
		}
	}
	if got := r.ask(t, "api.cache.get", `{"key": "a"}`); got != `{"found":false}` { // processed after all of the above
		t.Errorf("got %s", got)
	}
}
