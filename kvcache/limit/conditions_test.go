package limit_test

import (
	"fmt"
	"strings"
	"testing"

	"millrace/embedded/natsserver/natsservertest"
	"millrace/kvcache/limit"
	"millrace/node"
	"millrace/node/nodetest"
)

// Conditions says why the store can't be reached and that it is full, and is empty when all is well.
func TestConditionsNameTheCause(t *testing.T) {
	t.Parallel()
	s := natsservertest.Start(t)
	stream(t, s, 20_000)
	l := open(t, s, "n1", map[string]node.Limit{"r": rule("2/1h")}, func(c *limit.Config) { c.StoreBytes = 20_000 })
	says := func(what string, words ...string) {
		t.Helper()
		nodetest.Eventually(t, what, func() bool {
			all := strings.Join(l.Conditions(), "\n")
			for _, w := range words {
				if !strings.Contains(all, w) {
					return false
				}
			}
			return len(words) > 0 || all == ""
		})
		t.Logf("%s: %q", what, l.Conditions())
	}
	says("nothing is wrong")
	r := l.Rule("r")
	client := 0
	nodetest.Eventually(t, "the store is full", func() bool {
		client++
		_, err := r.Take(t.Context(), r.Key(fmt.Appendf(nil, "client %d", client)), 1)
		return err != nil
	})
	says("the store is full", "takes no further clients", "maximum bytes")
	if !l.Ready() {
		t.Error("a full store can't be asked")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	says("the server has gone", "can't be asked (no answer for", "the connection to NATS is away", "store_away",
		"JetStream must run")
	if l.Ready() {
		t.Error("a store that has gone can be asked")
	}
	if _, err := r.Usage(t.Context(), r.Key(nil)); err == nil || !strings.Contains(err.Error(),
		"the connection to NATS is away") {
		t.Errorf("usage gave %v", err)
	}
}
