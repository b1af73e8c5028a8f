package main

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"testing"

	"millrace/node/nodetest"
)

// number returns the value of an environment variable, or short without it.
func number(t *testing.T, variable string, short int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return short
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s=%s: %v", variable, text, err)
	}
	return n
}

// fewer returns n, or a smaller number with the race detector, which takes about the same time.
func fewer(n int) int {
	if raceEnabled {
		return n / 5
	}
	return n
}

// Three nodes get their first limits by a reload. Clients of one address then ask all nodes at once. Exactly as many
// requests are admitted as the limit allows, and refusals don't use the store. Every node shows the same usage and can
// reset it. Queued requests are admitted at the limit's pace. LIMIT_PERMITS is the largest limit.
func TestLimitCluster(t *testing.T) { //nolint:tparallel // its parts follow one another
	t.Parallel()
	large := fewer(number(t, "LIMIT_PERMITS", 1000))
	limits := []string{"shown: 30/15m", queueLimit}
	for i := range exactTries {
		limits = append(limits, fmt.Sprintf("small-%d: 100/15m", i), fmt.Sprintf("large-%d: %d/15m", i, large))
	}
	c := startWithout(t, limits...)
	nodes := c.nodes[:]
	var denied string
	t.Run("exact", func(t *testing.T) {
		admitsExactly(t, nodes, "/small", 100, fewer(3000))
		denied = admitsExactly(t, nodes, "/large", large, 6*large)
	})
	t.Run("denied", func(t *testing.T) { deniedCostsNothing(t, nodes, denied) })
	t.Run("shown", func(t *testing.T) { shownAndReset(t, nodes) })
	// A node that waits for the store leaves positions unused, but never takes one twice.
	t.Run("queue", func(t *testing.T) { queues(t, nodes, 0.1) })
	c.end(t)
}

// exactTries is how often a limit may admit fewer than it allows. A node that gets no processor for so long that the
// store or another node seems to be away loses permits, or answers 503. No node ever admits more.
const exactTries = 3

// admitsExactly uses up an unused limit, first PATH-0, and returns the path of the last one tried.
func admitsExactly(t *testing.T, nodes []*cacheNode, name string, limit, requests int) (path string) {
	t.Helper()
	for i := range exactTries {
		path = fmt.Sprintf("%s-%d", name, i)
		before := storeOperations(t, nodes)
		got := limitClients{path: path, nodes: nodes, atOnce: 32}.ask(requests)
		t.Logf("%s: %s with %.0f operations", path, got, storeOperations(t, nodes)-before)
		if got.admitted() > limit {
			t.Errorf("%s: %s, want %d admitted", path, got, limit)
		}
		if (got.admitted() == limit && got.failed() == 0) || raceEnabled {
			return path
		}
	}
	t.Errorf("%s: never were exactly %d admitted and all others refused", path, limit)
	return path
}

// deniedCostsNothing sends further requests of a client that has used up its limit.
func deniedCostsNothing(t *testing.T, nodes []*cacheNode, path string) {
	t.Helper()
	const most = 30 // now and then each node asks the others for spare permits
	before := storeOperations(t, nodes)
	got := limitClients{path: path, nodes: nodes, atOnce: 32}.ask(fewer(20_000))
	cost := storeOperations(t, nodes) - before
	t.Logf("%s with %.0f operations", got, cost)
	if (got.admitted() > 0 || got.failed() > 0 || cost > most) && !raceEnabled {
		t.Errorf("a client without permits: %s, with %.0f operations", got, cost)
	}
}

// shownAndReset asks each node for a client's usage, and resets it through one.
func shownAndReset(t *testing.T, nodes []*cacheNode) {
	t.Helper()
	shows := func(expression string) {
		t.Helper()
		for i, n := range nodes {
			var said string
			// A node waits only briefly for the answers of the others.
			nodetest.Eventually(t, fmt.Sprintf("n%d shows %s", i+1, expression), func() bool {
				said = command(t, "limits", "show", "127.0.0.1", "--limit", "shown", "--admin", n.admin)
				return regexp.MustCompile(expression).MatchString(said)
			})
		}
	}
	traffic := limitClients{path: "/shown", nodes: nodes, atOnce: 1}
	traffic.ask(9)
	shows(`^shown +9 of 30 spent +21 left, \d+ of them held by nodes +resets`)
	traffic.ask(30)
	shows(`^shown +30 of 30 spent +0 left, 0 of them`)
	if said := command(t, "limits", "reset", "127.0.0.1", "--limit", "shown", "--admin",
		nodes[1].admin); said != "127.0.0.1 has its full allowance of: shown\n" {
		t.Errorf("reset says %q", said)
	}
	shows(`^shown +0 of 30 spent +30 left`)
	if got := traffic.ask(60); got.admitted() > 30 || ((got.admitted() < 30 || got.failed() > 0) && !raceEnabled) {
		t.Errorf("after a reset: %s", got)
	}
}
