package main

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"millrace/edge/admin"
	"millrace/node/nodetest"
)

// An acknowledged purge with wait=all holds for every later request on every node, whatever fails: one node is stopped
// for longer than its lease, one is killed and restarted, one is disconnected from the others while clients reach it.
// The clients record what they see, and that is checked at the end. PURGE_SECONDS is how long failures go on.
func TestPurgeHistory(t *testing.T) {
	faulty := seconds(t, "PURGE_SECONDS", 8)
	origin := newVersions(t)
	cluster := startCluster(t, origin.server.URL, [3]string{})
	measure(t, cluster)
	traffic := startClientLoad(cluster, origin)
	quiet := min(max(faulty/6, 2*time.Second), 10*time.Second)
	pass(quiet, quiet, func() {})
	took := traffic.latencies(0, traffic.now())
	t.Logf("quiet: %s", traffic.history)
	t.Logf("%d purges while all is well and clients read: p50 %s, p99 %s, slowest %s", len(took), percentile(took, 50),
		percentile(took, 99), percentile(took, 100))

	until := traffic.now() + faulty
	for round := 0; round == 0 || traffic.now() < until; round++ {
		victims := rand.Perm(len(cluster.nodes))
		for i, fault := range []func(*testing.T, *cacheCluster, *clientLoad, int){stopFault, cutFault, killFault} {
			if round > 0 && rand.IntN(2) == 0 { // else the next failure hits a cluster that hasn't recovered
				cluster.settled(t)
			}
			if round == 0 || traffic.now() < until {
				fault(t, cluster, traffic, victims[i])
			}
		}
	}
	cluster.settled(t)
	before := traffic.now()
	pass(500*time.Millisecond, time.Second, func() {})
	traffic.end()
	t.Logf("all: %s; %d requests at the origin", traffic.history, origin.requests.Load())
	report(t, traffic.history)
	if n := len(traffic.latencies(before, traffic.now())); n == 0 {
		t.Error("no purge was acknowledged after all faults were over")
	}
	if how := traffic.String(); strings.Contains(how, "malformed") {
		t.Error("a body wasn't one of the origin's")
	}
	cluster.end(t)
}

// measure logs the latency of purges without failures.
func measure(t *testing.T, cluster *cacheCluster) {
	t.Helper()
	var took []time.Duration
	for i := range 60 {
		begun := time.Now()
		what := admin.Purge{URL: keyURL(i % versionKeys), Wait: admin.WaitAll}
		if _, err := postPurge(http.DefaultClient, cluster.nodes[i%len(cluster.nodes)].admin, what); err != nil {
			t.Error(err)
		}
		took = append(took, time.Since(begun))
	}
	slices.Sort(took)
	t.Logf("%d purges, one after another: p50 %s, p99 %s, slowest %s", len(took), percentile(took, 50),
		percentile(took, 99), percentile(took, 100))
}

// report fails the test if the history has violations, and shows some of them.
func report(t *testing.T, h *history) {
	t.Helper()
	found := h.violations()
	for _, v := range found[:min(len(found), 10)] {
		t.Error(v)
	}
	if len(found) > 0 {
		t.Errorf("%d stale responses", len(found))
	}
}

// stopFault stops a node's process for longer than its lease. Requests of clients wait there until it continues.
func stopFault(t *testing.T, cluster *cacheCluster, traffic *clientLoad, victim int) {
	t.Helper()
	begun := traffic.now()
	cluster.nodes[victim].send(t, syscall.SIGSTOP)
	pass(3*time.Second+rand.N(time.Second), 600*time.Millisecond, func() { traffic.burst(victim) })
	traffic.burst(victim)
	cluster.nodes[victim].send(t, syscall.SIGCONT)
	t.Logf("n%d was stopped from %s to %s; %d purges were acknowledged meanwhile", victim+1, begun, traffic.now(),
		len(traffic.latencies(begun, traffic.now())))
}

// killFault kills a node's process and starts it again.
func killFault(t *testing.T, cluster *cacheCluster, traffic *clientLoad, victim int) {
	t.Helper()
	begun := traffic.now()
	cluster.nodes[victim].kill(t)
	pass(rand.N(500*time.Millisecond), time.Second, func() {})
	cluster.nodes[victim].start(t)
	traffic.burst(victim)
	nodetest.Eventually(t, "the node that was killed follows the purges again", cluster.nodes[victim].follows)
	t.Logf("n%d was killed at %s and followed the purges again at %s; %d purges were acknowledged meanwhile", victim+1,
		begun, traffic.now(), len(traffic.latencies(begun, traffic.now())))
}

// cutFault disconnects a node from the others, in one of two ways.
func cutFault(t *testing.T, cluster *cacheCluster, traffic *clientLoad, victim int) {
	t.Helper()
	begun := traffic.now()
	how := []linkState{linkFrozen, linkClosed}[rand.IntN(2)]
	cluster.cut(victim, how)
	pass(3*time.Second+rand.N(time.Second), 500*time.Millisecond, func() { traffic.burst(victim) })
	cluster.join(victim)
	traffic.burst(victim)
	pass(500*time.Millisecond, 100*time.Millisecond, func() { traffic.burst(victim) })
	t.Logf("n%d was cut off (%d) from %s to %s; %d purges were acknowledged meanwhile", victim+1, how, begun,
		traffic.now(), len(traffic.latencies(begun, traffic.now())))
}

// TestPurgeHistory can detect violations: a node configured to serve what it has while it can't hear of purges does so,
// and the check finds it.
func TestPurgeHistoryDetectsStaleReads(t *testing.T) {
	origin := newVersions(t)
	cluster := startCluster(t, origin.server.URL, [3]string{"", "", "offline: serve"})
	traffic := &clientLoad{history: newHistory(), origin: origin, nodes: cluster.nodes}
	client := &http.Client{Transport: &http.Transport{}, Timeout: 12 * time.Second}
	defer client.CloseIdleConnections()
	all := func() {
		for key := range versionKeys {
			for node := range cluster.nodes {
				traffic.ask(client, node, key)
			}
		}
	}
	all()
	cluster.cut(2, linkClosed)
	for i, what := range []admin.Purge{{URL: keyURL(1), Wait: admin.WaitAll}, {Tag: keyTag(2), Wait: admin.WaitAll}} {
		// The remaining two may have to elect a leader first.
		nodetest.Eventually(t, "the purge is acknowledged", func() bool {
			traffic.purge(client, i, what)
			return len(traffic.latencies(0, traffic.now())) == i+1
		})
	}
	all()
	found := traffic.violations()
	if want := 1 + len(reached(admin.Purge{Tag: keyTag(2)})); len(found) != want ||
		slices.ContainsFunc(found, func(v violation) bool {
			return v.read.node != 2
		}) {
		t.Errorf("%d stale responses, want %d, all of n3: %v", len(found), want, found)
	}
	cluster.join(2)
	cluster.settled(t)
	nodetest.Eventually(t, "the node has heard of the purges", func() bool {
		before := len(traffic.violations())
		all()
		return len(traffic.violations()) == before
	})
	t.Logf("%s; %d stale responses were seen", traffic.history, len(found))
	cluster.end(t)
}
