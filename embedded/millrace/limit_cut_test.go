package main

import (
	"net/http"
	"testing"
	"time"

	"millrace/node/nodetest"
)

// beginWindow waits until a window on the clock begins.
func beginWindow(window time.Duration) {
	next := time.Now().Truncate(window).Add(window)
	// nodes look at the clock a little later or earlier
	pass(time.Until(next)+20*time.Millisecond, time.Minute, func() {})
}

// nodeCutOff cuts a node off from the others while clients use up a limit on all three: they never get more than the
// limit, and the node spends what it holds and then answers 503. Of a limit with store_away: share it goes on to spend
// its part, in the windows that follow too.
func nodeCutOff(t *testing.T, c *cacheCluster) {
	t.Helper()
	const limit, all, share = 300, 60, 10 // of closed; of share, and of a node's part of it
	victim := (c.leader(t) + 1) % 3       // the others needn't choose another
	ask := func(path string, nodes []*cacheNode, requests int) statuses {
		return customers{path: path, nodes: nodes, atOnce: 8}.ask(requests)
	}
	inOneWindow(t, c, victim, "all nodes have their parts", func(cut, others statuses) bool {
		return raced || (cut.admitted()+others.admitted() == all && cut.failed()+others.failed() == 0)
	})
	total := ask("/closed", c.nodes[:], limit/2)
	c.cut(victim, linkClosed)
	begun := time.Now()
	cut, others := ask("/closed", c.nodes[victim:victim+1], limit/2), ask("/closed", c.others(victim), 2*limit)
	t.Logf("n%d was cut off after %s; then it %s, the others %s", victim+1, total, cut, others)
	// some may have asked that node's replica
	if cut[http.StatusServiceUnavailable] == 0 || cut[http.StatusTooManyRequests] > 0 ||
		others[http.StatusTooManyRequests] == 0 {
		t.Errorf("cut off %s, the others %s", cut, others)
	}
	inOneWindow(t, c, victim, "cut off, the node spends its part", func(cut, _ statuses) bool {
		if time.Since(begun) > 10*time.Second && !raced {
			t.Fatal("its slot is no longer the node's")
		}
		return raced || (cut.admitted() == share && cut[http.StatusServiceUnavailable] == share)
	})
	c.join(victim)
	total.add(cut)
	total.add(others)
	total.add(ask("/closed", c.nodes[:], limit))
	t.Logf("%d of %d were admitted, %d permits lost", total.admitted(), limit, limit-total.admitted())
	if total.admitted() > limit {
		t.Errorf("%d were admitted of %d", total.admitted(), limit)
	}
}

// inOneWindow lets clients ask for more than everything at the victim, and then at the others, until what they got in
// one window is right.
func inOneWindow(t *testing.T, c *cacheCluster, victim int, what string, right func(cut, others statuses) bool) {
	t.Helper()
	const limit, share, window = 60, 10, 2 * time.Second
	nodetest.Eventually(t, what, func() bool {
		beginWindow(window)
		begun := time.Now()
		cut := customers{path: "/share", nodes: c.nodes[victim : victim+1], atOnce: 8}.ask(2 * share)
		others := customers{path: "/share", nodes: c.others(victim), atOnce: 8}.ask(2 * limit)
		took := time.Since(begun)
		t.Logf("%s: n%d %s; the others %s, in %s", what, victim+1, cut, others, took)
		if took > window-50*time.Millisecond {
			return false // that was in two
		}
		if sum := cut.admitted() + others.admitted(); sum > limit {
			t.Errorf("%s: %d were admitted of %d", what, sum, limit)
		}
		return right(cut, others)
	})
}
