package main

import (
	"net/http"
	"sync"
	"testing"
	"time"
)

// waiting is the outcome of requests to a limit that queues.
type waiting struct {
	mu          sync.Mutex // guards what follows
	got         statuses
	byNode      [3]int // admitted
	first, last time.Time
	longest     time.Duration // the longest time of a request
}

// loadQueue sends requests at a steady pace to the nodes in turn, whether earlier ones are answered or not.
func loadQueue(path string, nodes []*cacheNode, perSecond int, lasts time.Duration) *waiting {
	w := &waiting{got: statuses{}}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1000}, Timeout: 20 * time.Second}
	defer client.CloseIdleConnections()
	var running sync.WaitGroup
	next := 0
	pass(lasts, time.Second/time.Duration(perSecond), func() {
		at := next % len(nodes)
		next++
		running.Go(func() {
			begun := time.Now()
			w.see(at, statusOf(client, nodes[at].edge+path), begun)
		})
	})
	running.Wait()
	return w
}

func (w *waiting) see(node, status int, begun time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	w.got[status]++
	w.longest = max(w.longest, now.Sub(begun))
	if status != http.StatusOK {
		return
	}
	w.byNode[node]++
	if w.last = now; w.first.IsZero() {
		w.first = now
	}
}

// sent returns the number of requests.
func (w *waiting) sent() (n int) {
	for _, many := range w.got {
		n += many
	}
	return n
}

// queueLimit admits 50 requests a second. The burst compensates for moments in which the machine runs something else.
const queueLimit = "queue: {max: 50, window: 1s, algorithm: bucket, burst: 5, mode: queue, max_wait: 2s}"

// queues sends three times as many requests as the limit allows. They are admitted at the limit's pace, at most slower
// by a fraction, on all nodes alike, and none waits longer than max_wait.
func queues(t *testing.T, nodes []*cacheNode, slower float64) {
	t.Helper()
	const perSecond, burst, maxWait = 50, 5, 2 * time.Second
	const lasts = 4 * time.Second
	w := loadQueue("/queue", nodes, 3*perSecond, lasts)
	span := w.last.Sub(w.first)
	off := (float64(w.got.admitted()-burst)/span.Seconds() - perSecond) / perSecond
	t.Logf("%s; admitted by node %d, in %s: %+.1f %% of the limit; the longest wait was %s", w.got, w.byNode, span,
		100*off, w.longest)
	if off > 0.01 || (w.got.failed() > 0 && !raceEnabled) {
		t.Errorf("%s in %s: %+.1f %% of the limit", w.got, span, 100*off)
	}
	if w.sent() < 9*3*perSecond*int(lasts/time.Second)/10 {
		t.Logf("only %d requests were made: this machine has too much to do to tell how slow a queue is", w.sent())
		return
	}
	if off < -slower {
		t.Errorf("%+.1f %% of the limit", 100*off)
	}
	if w.longest > maxWait+500*time.Millisecond {
		t.Errorf("a request waited for %s", w.longest)
	}
	for i := range nodes {
		if w.byNode[i] < w.got.admitted()/len(nodes)/2 {
			t.Errorf("n%d admitted %d of %d", i+1, w.byNode[i], w.got.admitted())
		}
	}
}

// A node that stands alone queues requests like a cluster.
func TestLimitQueue(t *testing.T) {
	t.Parallel()
	n := startOneLimited(t, queueLimit)
	queues(t, []*cacheNode{n}, 0.01)
	n.end(t)
}
