package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"millrace/embedded/natsserver/natsservertest"
	"millrace/node/nodetest"
)

// startVerbose starts a node that logs at debug level to a file.
func startVerbose(t *testing.T, n *cacheNode) {
	t.Helper()
	n.process = begin(t, exec.CommandContext(context.WithoutCancel(t.Context()), "sh", "-c",
		`log=$0; exec "$@" 2>>"$log"`,
		n.log(), os.Args[0], "run", "-c", n.file, "--log-level", "debug"))
}

func (n *cacheNode) log() string { return filepath.Join(filepath.Dir(n.file), "log") }

// leader returns the node whose replica of the limits' stream leads: the one that logged it last.
func (c *cacheCluster) leader(t *testing.T) (node int) {
	t.Helper()
	var last time.Time
	for i, n := range c.nodes {
		f, err := os.Open(n.log())
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if led := natsservertest.LedSince(f, "KV_millrace-limits"); led.After(last) {
			last, node = led, i
		}
	}
	if last.IsZero() {
		t.Fatal("nobody leads the stream of limits")
	}
	return node
}

// outage records when requests were neither admitted nor refused.
type outage struct {
	admitted, refused atomic.Int64

	mu          sync.Mutex // guards what follows
	first, last time.Time
}

func (o *outage) see(status int, begun time.Time) {
	switch status {
	case http.StatusOK:
		o.admitted.Add(1)
	case http.StatusTooManyRequests:
		o.refused.Add(1)
	default:
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.last = time.Now(); o.first.IsZero() {
			o.first = begun
		}
	}
}

// leaderKilled kills the node that leads the limits' stream while clients use up a limit on the others. They never get
// more than the limit. In the next window they get all of it, and when the node comes back it adds nothing to the old
// one.
func leaderKilled(t *testing.T, c *cacheCluster) {
	t.Helper()
	const long, short, window = 2000, 300, 3 * time.Second
	victim := c.leader(t)
	survivors := c.others(victim)
	total := limitClients{path: "/long", nodes: c.nodes[:], atOnce: 8}.ask(700)
	limitClients{path: "/short", nodes: c.nodes[:], atOnce: 8}.ask(60)

	var down outage
	var stop atomic.Bool
	meanwhile := make(chan statuses)
	go func() {
		meanwhile <- limitClients{
			path: "/long", nodes: survivors, atOnce: 8, every: 20 * time.Millisecond, seen: down.see,
			until: &stop,
		}.ask(1 << 20)
	}()
	nodetest.Eventually(t, "requests flow", func() bool { return down.admitted.Load() > 100 })
	killed := time.Now()
	c.nodes[victim].kill(t)
	nodetest.Eventually(t, "the limit is used up", func() bool { return down.refused.Load() > 20 })
	stop.Store(true)
	total.add(<-meanwhile)
	total.add(limitClients{path: "/long", nodes: survivors, atOnce: 8}.ask(500))
	t.Logf("n%d was killed: %s; %d permits lost", victim+1, total, long-total.admitted())
	if !down.first.IsZero() {
		t.Logf("requests failed from %s to %s after it", down.first.Sub(killed), down.last.Sub(killed))
	}
	nodetest.Eventually(t, "a survivor has another elected at once", func() bool {
		return hastened(t, survivors, fmt.Sprint("n", victim+1))
	})

	begun := time.Now()
	got := limitClients{path: "/short", nodes: survivors, atOnce: 16}.ask(4 * short)
	if took := time.Since(begun); (got.admitted() != short || took > window) && !raceEnabled {
		t.Errorf("in a window after it: %s in %s", got, took)
	}
	startVerbose(t, c.nodes[victim])
	total.add(limitClients{path: "/long", nodes: c.nodes[:], atOnce: 8}.ask(300))
	if total.admitted() > long {
		t.Errorf("%s: %d requests were admitted of %d", total, total.admitted(), long)
	}
}

// hastened reports whether one of the nodes has hastened the election after the leader was lost.
func hastened(t *testing.T, nodes []*cacheNode, leader string) bool {
	t.Helper()
	for _, n := range nodes {
		log, err := os.ReadFile(n.log())
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(log)) {
			if strings.Contains(line, "an election is hastened") && strings.Contains(line, `"leader":"`+leader+`"`) {
				return true
			}
		}
	}
	return false
}

// A node that stands alone is killed and restarted within a window. Used permits stay used, for every algorithm, and at
// most half of the limit is lost.
func TestLimitAloneKilled(t *testing.T) {
	t.Parallel()
	const limit = 1000
	paths := []string{"/first", "/day", "/sliding", "/bucket"}
	n := startOneLimited(t, "first: 1000/15m", "day: 1000/day", "sliding: {max: 1000, window: 15m, algorithm: sliding}",
		"bucket: {max: 1000, window: 24h, algorithm: bucket}")
	traffic := func(path string, requests int) statuses {
		return limitClients{path: path, nodes: []*cacheNode{n}, atOnce: 8}.ask(requests)
	}
	total := map[string]int{}
	for _, path := range paths {
		total[path] = traffic(path, 400).admitted()
	}
	n.kill(t)
	n.start(t)
	for _, path := range paths {
		got := traffic(path, limit)
		total[path] += got.admitted()
		t.Logf("%s: %d before, %s afterwards; %d permits lost", path, total[path]-got.admitted(), got,
			limit-total[path])
		if total[path] > limit || (got.failed() > 0 && !raceEnabled) {
			t.Errorf("%s: %d were admitted of %d, and %d failed", path, total[path], limit, got.failed())
		}
		if total[path] < limit/2 {
			t.Errorf("%s: only %d were admitted of %d: more than half was lost with the node", path, total[path], limit)
		}
	}
	n.end(t)
}
