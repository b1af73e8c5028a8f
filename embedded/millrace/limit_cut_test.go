package main

import (
	"net/http"
	"testing"
	"time"

	"millrace/node/nodetest"
)

// beginWindow waits until a window aligned to the clock begins.
func beginWindow(window time.Duration) {
	next := time.Now().Truncate(window).Add(window)
	// Nodes read the clock a little later or earlier.
	pass(time.Until(next)+20*time.Millisecond, time.Minute, func() {})
}

// nodeCutOff disconnects a node from the others while clients use up a limit on all three. They never get more than the
// limit. The node uses the permits that it holds and then answers 503. With store_away: share it uses its share, in
// later windows too.
func nodeCutOff(t *testing.T, c *cacheCluster) {
	t.Helper()
	const limit, all, share = 300, 60, 10 // of closed; of share, and of one node's share of it
	victim := (c.leader(t) + 1) % 3       // not the leader, so that no election is needed
	ask := func(path string, nodes []*cacheNode, requests int) statuses {
		return limitClients{path: path, nodes: nodes, atOnce: 8}.ask(requests)
	}
	inOneWindow(t, c, victim, "all nodes have their parts", func(cut, others statuses) bool {
		return raceEnabled || (cut.admitted()+others.admitted() == all && cut.failed()+others.failed() == 0)
	})
	total := ask("/closed", c.nodes[:], limit/2)
	c.cut(victim, linkClosed)
	begun := time.Now()
	cut, others := ask("/closed", c.nodes[victim:victim+1], limit/2), ask("/closed", c.others(victim), 2*limit)
	t.Logf("n%d was cut off after %s; then it %s, the others %s", victim+1, total, cut, others)
	// Some may have asked that node's replica.
	if cut[http.StatusServiceUnavailable] == 0 || cut[http.StatusTooManyRequests] > 0 ||
		others[http.StatusTooManyRequests] == 0 {
		t.Errorf("cut off %s, the others %s", cut, others)
	}
	inOneWindow(t, c, victim, "cut off, the node spends its part", func(cut, _ statuses) bool {
		if time.Since(begun) > 10*time.Second && !raceEnabled {
			t.Fatal("its slot is no longer the node's")
		}
		return raceEnabled || (cut.admitted() == share && cut[http.StatusServiceUnavailable] == share)
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

// inOneWindow sends more requests than the limit to the victim and then to the others, and repeats that until the
// results of one window are right.
func inOneWindow(t *testing.T, c *cacheCluster, victim int, what string, right func(cut, others statuses) bool) {
	t.Helper()
	const limit, share, window = 60, 10, 2 * time.Second
	nodetest.Eventually(t, what, func() bool {
		beginWindow(window)
		begun := time.Now()
		cut := limitClients{path: "/share", nodes: c.nodes[victim : victim+1], atOnce: 8}.ask(2 * share)
		others := limitClients{path: "/share", nodes: c.others(victim), atOnce: 8}.ask(2 * limit)
		took := time.Since(begun)
		t.Logf("%s: n%d %s; the others %s, in %s", what, victim+1, cut, others, took)
		if took > window-50*time.Millisecond {
			return false // the requests fell into two windows
		}
		if sum := cut.admitted() + others.admitted(); sum > limit {
			t.Errorf("%s: %d were admitted of %d", what, sum, limit)
		}
		return right(cut, others)
	})
}
