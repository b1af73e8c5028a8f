package edge_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"millrace/edge"
	"millrace/edge/edgetest"
	"millrace/node"
	"millrace/node/nodetest"
)

// Under expose "*" a name that nobody has ever served is not found, whatever carries the request; a service that has
// only lost its members is away.
func TestNameNeverServedIsNotFound(t *testing.T) {
	r := edgetest.Start(t, edgetest.Config{Edge: func(e *node.Edge) { e.Expose = []string{"*"} }})
	for _, c := range []struct{ method, path, body string }{
		{"GET", "/favicon-ico", ""},
		{"GET", "/wp-admin/x?y=1", ""},
		{"POST", "/wp-admin", "short"},
		{"POST", "/wp-admin", strings.Repeat("long", 200_000)},
	} {
		resp, body := r.Do(t, c.method, c.path, c.body)
		if resp.StatusCode != http.StatusNotFound || !strings.Contains(body, `"not_found"`) ||
			strings.Contains(body, "wp-admin") {
			t.Errorf("%s %s answered %d %s, want 404", c.method, c.path, resp.StatusCode, body)
		}
	}

	sub, err := r.Conn.NATS().QueueSubscribe("http.late", "q", func(m *nats.Msg) {
		_ = m.Respond([]byte("HTTP/1.1 200 OK\r\n\r\nhi"))
	})
	if err == nil {
		err = r.Conn.NATS().Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	// at once: the first request finds it
	if resp, body := r.Do(t, "GET", "/late", ""); resp.StatusCode != http.StatusOK {
		t.Errorf("/late answered %d %s", resp.StatusCode, body)
	}
	if err := sub.Unsubscribe(); err != nil {
		t.Fatal(err)
	}
	nodetest.Eventually(t, "a service whose last member has left is away", func() bool {
		resp, body := r.Do(t, "GET", "/late", "")
		return resp.StatusCode == http.StatusServiceUnavailable && strings.Contains(body, `"no_member"`)
	})
}

// What is remembered of names has a bound, and a name that is served counts as seen at any time.
func TestExposedNamesAreBounded(t *testing.T) {
	var seen edge.Seen
	for i := range edge.MaxSeen + 1 {
		seen.Add(fmt.Sprintf("s%d", i))
	}
	if n := seen.Count(); n > edge.MaxSeen {
		t.Errorf("%d names are remembered, want %d at most", n, edge.MaxSeen)
	}
	if last := fmt.Sprintf("s%d", edge.MaxSeen); !seen.Has(last) || seen.Has("never") {
		t.Error("the newest name is forgotten, or one is known that was never added")
	}
}
