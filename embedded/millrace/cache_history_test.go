package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"millrace/edge/admin"
)

// history is what clients and purgers of a cluster saw. Times are relative to its start.
type history struct {
	begin time.Time

	mu       sync.Mutex // guards what follows
	reads    []readEvent
	purges   []purgeEvent
	failures map[string]int // requests and purges that failed, by their outcome
}

// readEvent is a response to a client.
type readEvent struct {
	start, end time.Duration
	node, key  int
	version    int64
	status     string // Cache-Status
}

// purgeEvent is an acknowledged purge of one key: every later response must have at least that version.
type purgeEvent struct {
	start, acknowledged time.Duration
	node, key           int
	version             int64
	what                admin.Purge
	states              string // of the nodes, as in the answer
}

// violation is a response that is older than an acknowledged purge allows.
type violation struct {
	read  readEvent
	purge purgeEvent
}

// String returns a summary.
func (v violation) String() string {
	return fmt.Sprintf("n%d gave version %d of key %d (asked at %s, answered at %s, %s) after n%d had acknowledged at "+
		"%s that version %d counts (purge of %s, begun at %s, %s)",
		v.read.node+1, v.read.version, v.read.key, v.read.start, v.read.end, v.read.status, v.purge.node+1,
		v.purge.acknowledged, v.purge.version, v.purge.what, v.purge.start, v.purge.states)
}

func newHistory() *history { return &history{begin: time.Now(), failures: map[string]int{}} }

func (h *history) now() time.Duration { return time.Since(h.begin) }

func (h *history) read(e readEvent) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reads = append(h.reads, e)
}

func (h *history) purged(e ...purgeEvent) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.purges = append(h.purges, e...)
}

func (h *history) failed(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failures[what]++
}

// violations returns the responses to requests that began after a purge was acknowledged and that are older than its
// version.
func (h *history) violations() (out []violation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	reads, purges := slices.Clone(h.reads), slices.Clone(h.purges)
	slices.SortFunc(reads, func(a, b readEvent) int { return cmp.Compare(a.start, b.start) })
	slices.SortFunc(purges, func(a, b purgeEvent) int { return cmp.Compare(a.acknowledged, b.acknowledged) })
	newest := map[int]purgeEvent{} // the highest acknowledged version of each key so far
	for _, r := range reads {
		for len(purges) > 0 && purges[0].acknowledged < r.start {
			if p := purges[0]; p.version > newest[p.key].version {
				newest[p.key] = p
			}
			purges = purges[1:]
		}
		if p := newest[r.key]; r.version < p.version {
			out = append(out, violation{r, p})
		}
	}
	return out
}

// latencies returns the sorted latencies of the acknowledged purges that ended in a phase.
func (h *history) latencies(from, to time.Duration) (out []time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	seen := map[time.Duration]bool{} // a purge of many keys is many events
	for _, p := range h.purges {
		if p.start >= from && p.acknowledged <= to && !seen[p.start] {
			seen[p.start] = true
			out = append(out, p.acknowledged-p.start)
		}
	}
	slices.Sort(out)
	return out
}

// String returns a summary.
func (h *history) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	how := map[string]int{}
	for _, r := range h.reads {
		how[howServed(r.status)]++
	}
	purges, ended := map[string]int{}, 0
	seen := map[time.Duration]bool{}
	for _, p := range h.purges {
		if seen[p.start] {
			continue
		}
		seen[p.start] = true
		kind, _, _ := strings.Cut(p.what.String(), " ")
		purges[kind]++
		if strings.Contains(p.states, "lease-ended") {
			ended++
		}
	}
	return fmt.Sprintf("%d responses: %v; %d purges acknowledged: %v, %d of them after a lease's end; failed: %v",
		len(h.reads), how, len(seen), purges, ended, h.failures)
}

// howServed says where a response comes from, by its Cache-Status.
func howServed(status string) string {
	switch {
	case strings.Contains(status, "detail="):
		_, detail, _ := strings.Cut(status, "detail=")
		return detail
	case strings.Contains(status, "; hit"):
		return "hit"
	case strings.Contains(status, "fwd-status=304"):
		return "validated"
	case strings.Contains(status, "; collapsed"):
		return "collapsed"
	case strings.Contains(status, "; stored"):
		return "origin"
	}
	return "other"
}

func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)*p/100, len(sorted)-1)]
}

// The check of histories finds all violations and nothing else.
func TestPurgeHistoryFindsViolations(t *testing.T) {
	const ms = time.Millisecond
	read := func(start time.Duration, key int, version int64) readEvent {
		return readEvent{start: start, end: start + ms, key: key, version: version}
	}
	purge := func(acknowledged time.Duration, key int, version int64) purgeEvent {
		return purgeEvent{start: acknowledged - ms, acknowledged: acknowledged, key: key, version: version}
	}
	good := []readEvent{
		read(1*ms, 1, 1), read(10*ms, 1, 1), // a request at the moment of the acknowledgement counts as before it
		read(11*ms, 1, 2), read(11*ms, 2, 1), // of another key
		read(9*ms, 1, 3), // newer than it must be
		read(31*ms, 1, 4), read(25*ms, 1, 3),
	}
	// the last one is acknowledged late and has an older version
	purges := []purgeEvent{purge(30*ms, 1, 4), purge(10*ms, 1, 2), purge(20*ms, 1, 3), purge(22*ms, 1, 2)}
	for _, c := range []struct {
		name string
		add  []readEvent
		want int
	}{
		{"all is well", nil, 0},
		{"one is old", []readEvent{read(12*ms, 1, 1)}, 1},
		{"one is old although a later word was of an older version", []readEvent{read(23*ms, 1, 2)}, 1},
		{"one is old, long afterwards", []readEvent{read(time.Hour, 1, 3)}, 1},
		{"one is old and answered very late", []readEvent{{start: 31 * ms, end: time.Minute, key: 1, version: 3}}, 1},
		{
			"one began before and is answered late",
			[]readEvent{{start: 9 * ms, end: time.Minute, key: 1, version: 1}},
			0,
		},
		{"two are old", []readEvent{read(12*ms, 1, 1), read(32*ms, 1, 1)}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHistory()
			h.purged(purges...)
			for _, r := range append(slices.Clone(good), c.add...) {
				h.read(r)
			}
			if got := h.violations(); len(got) != c.want {
				t.Errorf("%d violations, want %d: %v", len(got), c.want, got)
			}
		})
	}
}
