package main

import (
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"millrace/node/nodetest"
)

// admission is an admitted request.
type admission struct {
	start, end time.Duration // since the Unix epoch
	resets     int64         // the second in which its window ends, from the response
}

// admissions are those of one limit and client, sorted by start.
type admissions []admission

// most is a lower bound for the admissions in the busiest span of a length. A request that began before the span or
// ended after it doesn't count, since it may have been admitted outside.
func (as admissions) most(span time.Duration) (n int) {
	for i, first := range as {
		inside := 0
		for _, a := range as[i:] {
			if a.start > first.start+span {
				break
			}
			if a.end <= first.start+span {
				inside++
			}
		}
		n = max(n, inside)
	}
	return n
}

// perWindow is a lower bound for the admissions in the busiest window aligned to the clock.
func (as admissions) perWindow(window time.Duration) (n int) {
	in := map[time.Duration]int{}
	for _, a := range as {
		if w := a.start / window; a.end/window == w {
			in[w]++
			n = max(n, in[w])
		}
	}
	return n
}

// perReset is the number of admissions in the busiest window by the reset times of the responses. These are rounded, so
// two seconds may belong to one window.
func (as admissions) perReset() (n int) {
	in := map[int64]int{}
	for _, a := range as {
		in[a.resets]++
	}
	for second := range in {
		n = max(n, in[second]+in[second+1])
	}
	return n
}

// beyond is the largest excess of admissions over what a bucket allows, over all spans up to 5 s. It is at most 0 if
// there is no violation.
func (as admissions) beyond(burst int, perSecond float64) (n int) {
	n = -burst
	for i, first := range as {
		var ends []time.Duration
		for _, a := range as[i:] {
			if a.start > first.start+5*time.Second {
				break
			}
			ends = append(ends, a.end-first.start)
		}
		slices.Sort(ends)
		for k, end := range ends {
			n = max(n, k+1-burst-int(end.Seconds()*perSecond))
		}
	}
	return n
}

// limitHistory is what the clients of a cluster saw.
type limitHistory struct {
	nodes   [3]*cacheNode
	running sync.WaitGroup
	stop    chan struct{}

	mu  sync.Mutex // guards what follows
	all map[string]admissions
	got statuses
}

// watchLimits starts clients that request the paths from all nodes until end.
func watchLimits(c *cacheCluster, paths ...string) *limitHistory {
	h := &limitHistory{nodes: c.nodes, stop: make(chan struct{}), all: map[string]admissions{}, got: statuses{}}
	for _, path := range paths {
		for _, n := range c.nodes {
			h.running.Go(func() { h.ask(n.edge+path, path) })
		}
	}
	return h
}

// ask is the loop of one client.
func (h *limitHistory) ask(url, path string) {
	client := &http.Client{Transport: &http.Transport{}, Timeout: 6 * time.Second}
	defer client.CloseIdleConnections()
	tick := time.NewTicker(40 * time.Millisecond) // two to four times as often as the limits allow
	defer tick.Stop()
	for {
		select {
		case <-h.stop:
			return
		case <-tick.C:
		}
		a := admission{start: time.Duration(time.Now().UnixNano())}
		status := 0
		if resp, err := client.Get(url); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body) // only the head matters
			resp.Body.Close()
			status = resp.StatusCode
			a.resets, _ = strconv.ParseInt(resp.Header.Get("X-RateLimit-Reset"), 10, 64) // missing in some responses
		}
		a.end = time.Duration(time.Now().UnixNano())
		h.mu.Lock()
		if h.got[status]++; status == http.StatusOK {
			h.all[path] = append(h.all[path], a)
		}
		h.mu.Unlock()
	}
}

// end stops the clients and sorts their admissions.
func (h *limitHistory) end() {
	close(h.stop)
	h.running.Wait()
	for _, as := range h.all {
		slices.SortFunc(as, func(a, b admission) int { return int(a.start - b.start) })
	}
}

// No limit admits more than it allows, whatever fails: not in a window aligned to the clock with shares per node, not
// in one that begins with a request, not in any span of a sliding one, and not from a bucket. A node is disconnected,
// and the leader is killed. Then, for LIMIT_SECONDS, nodes are stopped, disconnected and killed at random.
func TestLimitFaults(t *testing.T) {
	t.Parallel()
	const window = 2 * time.Second
	c := startVerboseLimits(t, "long: 2000/15m", "short: 300/3s", "closed: 300/15m",
		"share: {max: 60, window: 2s, align: clock, store_away: share}",
		"clock: {max: 60, window: 2s, align: clock, store_away: share}",
		"first: {max: 60, window: 3s, headers: legacy}",
		"sliding: {max: 60, window: 2s, algorithm: sliding}",
		"bucket: {max: 20, window: 1s, algorithm: bucket, burst: 15}")
	h := watchLimits(c, "/clock", "/first", "/sliding", "/bucket")
	nodeCutOff(t, c)
	back := time.Now()
	c.counts(t) // its return may cause another election
	t.Logf("the store answered all nodes %s after it came back", time.Since(back))
	leaderKilled(t, c)
	faulty := seconds(t, "LIMIT_SECONDS", 0)
	for begun := time.Now(); time.Since(begun) < faulty; {
		if rand.IntN(2) == 0 { // else the next failure hits a cluster that hasn't recovered
			c.counts(t)
		}
		faults := []func(*testing.T, *cacheCluster, int){stopLimits, cutLimits, killLimits}
		faults[rand.IntN(len(faults))](t, c, rand.IntN(len(c.nodes)))
	}
	h.end()
	t.Logf("%s in all", h.got)
	for _, l := range []struct {
		path        string
		most, limit int
	}{
		{"/clock", h.all["/clock"].perWindow(window), 60},
		{"/first", h.all["/first"].perReset(), 60},
		{"/sliding", h.all["/sliding"].most(window), 60},
		{"/bucket", h.all["/bucket"].beyond(15, 20), 0},
	} {
		t.Logf("%s: %d were admitted, at most %d of %d", l.path, len(h.all[l.path]), l.most, l.limit)
		if l.most > l.limit {
			t.Errorf("%s: %d were admitted of %d", l.path, l.most, l.limit)
		}
		if len(h.all[l.path]) == 0 {
			t.Errorf("%s: nothing was admitted", l.path)
		}
	}
	c.end(t)
}

// stopLimits stops a node's process for longer than windows last. Requests of clients wait there until it continues.
func stopLimits(t *testing.T, c *cacheCluster, victim int) {
	t.Helper()
	c.nodes[victim].send(t, syscall.SIGSTOP)
	pass(time.Second+rand.N(2*time.Second), time.Minute, func() {})
	c.nodes[victim].send(t, syscall.SIGCONT)
	t.Logf("n%d was stopped", victim+1)
}

// cutLimits disconnects a node from the others, in one of two ways.
func cutLimits(t *testing.T, c *cacheCluster, victim int) {
	t.Helper()
	how := []linkState{linkFrozen, linkClosed}[rand.IntN(2)]
	c.cut(victim, how)
	pass(2*time.Second+rand.N(2*time.Second), time.Minute, func() {})
	c.join(victim)
	t.Logf("n%d was cut off (%d)", victim+1, how)
}

// killLimits kills a node's process and starts it again.
func killLimits(t *testing.T, c *cacheCluster, victim int) {
	t.Helper()
	c.nodes[victim].kill(t)
	pass(rand.N(500*time.Millisecond), time.Second, func() {})
	startVerbose(t, c.nodes[victim])
	nodetest.Eventually(t, "the node that was killed answers", func() bool {
		return statusOf(http.DefaultClient, c.nodes[victim].edge+"/clock") != 0
	})
	t.Logf("n%d was killed", victim+1)
}

// The checks of histories find all violations and nothing else.
func TestLimitHistoryFindsViolations(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	at := func(starts ...int) (as admissions) { // in milliseconds; each takes two, and its window ends with the second
		for _, start := range starts {
			d := time.Duration(start) * ms
			as = append(as, admission{d, d + 2*ms, int64(start/1000) + 1})
		}
		return as
	}
	long := admissions{{990 * ms, 1010 * ms, 2}, {1000 * ms, 2001 * ms, 2}}
	for _, c := range []struct {
		name string
		got  int
		want int
	}{
		{"two in a span", at(0, 500, 1100).most(1000 * ms), 2},
		{"three in a span", at(0, 500, 998).most(1000 * ms), 3},
		{"the third may have been admitted after the span", at(0, 500, 999).most(1000 * ms), 2},
		{"nothing", at().most(1000 * ms), 0},
		{"a window on the clock", at(100, 900, 1000, 1500, 1900).perWindow(1000 * ms), 3},
		{"one that may be of either window", append(long, at(1500)...).perWindow(1000 * ms), 1},
		{"windows as told, rounded", at(100, 900, 1500, 2500, 2600, 4000).perReset(), 3},
		{"a bucket that isn't used up", at(0, 100).beyond(3, 10), -2},
		{"a bucket that was full", at(0, 1, 2).beyond(3, 10), 0},
		{"a bucket that is used as it fills", at(0, 1, 2, 100, 200).beyond(3, 10), 0},
		{"more than a bucket had", at(0, 1, 2, 3).beyond(3, 10), 1},
		{"a bucket that refills too fast", at(0, 1, 2, 50, 100, 150).beyond(3, 10), 2},
	} {
		if c.got != c.want {
			t.Errorf("%s: %d, want %d", c.name, c.got, c.want)
		}
	}
}
