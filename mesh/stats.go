package mesh

import (
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// maxLabels bounds the labels that are counted one by one. All others are counted together as "other".
const maxLabels = 1024

// Stats counts what happened to a destination's requests and replies since the start. Label is http.NAME, upstream.NAME
// or nats.
type Stats struct {
	Label                                string
	Local, Retries, Busy, NoMember       uint64 // Local: handed to a member in this process without NATS
	Late, Duplicate, Malformed, Oversize uint64
}

// Stats returns the counts of every destination with something to count, ordered by label.
func (c *Conn) Stats() []Stats {
	var out []Stats
	c.stats.byLabel.Range(func(label, v any) bool {
		n := v.(*counts)
		out = append(out, Stats{
			Label: label.(string), Local: n.local.Load(), Retries: n.retries.Load(), Busy: n.busy.Load(),
			NoMember: n.noMember.Load(),
			Late:     n.late.Load(), Duplicate: n.duplicate.Load(), Malformed: n.malformed.Load(),
			Oversize: n.oversized.Load(),
		})
		return true
	})
	slices.SortFunc(out, func(a, b Stats) int { return strings.Compare(a.Label, b.Label) })
	return out
}

// InFlight returns the number of tries that now wait for a reply.
func (c *Conn) InFlight() int { return cap(c.mux.free) - len(c.mux.free) }

type counters struct {
	log     *slog.Logger
	byLabel sync.Map // string -> *counts
	labels  atomic.Int64
}

type counts struct {
	local, retries, busy, noMember        atomic.Uint64
	late, duplicate, malformed, oversized atomic.Uint64
	warned                                [warnKinds]warned
	fullUntil                             atomic.Int64 // unix nanoseconds: until then all members count as full
	budget                                *Budget      // for second tries
}

// mayAskAgain reports whether a call may try again after that many busy replies.
func (n *counts) mayAskAgain(refused int) bool {
	now := time.Now()
	if refused >= maxBusy {
		n.fullUntil.Store(now.Add(fullFor).UnixNano())
		return false
	}
	return refused < fewBusy || now.UnixNano() >= n.fullUntil.Load()
}

func (s *counters) forLabel(label string) *counts {
	if v, ok := s.byLabel.Load(label); ok {
		return v.(*counts)
	}
	if s.labels.Add(1) > maxLabels {
		label = "other"
	}
	v, _ := s.byLabel.LoadOrStore(label, &counts{budget: NewBudget()})
	return v.(*counts)
}

// forKnownLabel is forLabel for labels that a client may have made up. A label that never had a reply is counted as
// "other".
func (s *counters) forKnownLabel(label string) *counts {
	if v, ok := s.byLabel.Load(label); ok {
		return v.(*counts)
	}
	return s.forLabel("other")
}

// countDropped counts a reply that nobody waits for. Second replies come from a member in another queue group, or from
// one that answers twice. Both are mistakes worth a warning.
func (s *counters) countDropped(label string, reason dropReason) {
	n := s.forLabel(label)
	switch reason {
	case dropDuplicate:
		n.duplicate.Add(1)
		what := "service answered twice: is a member outside queue group q?"
		if label == plainLabel {
			what = "several plain services answer one request: the first answer counts"
		}
		s.warn(&n.warned[warnDuplicate], what, "service", label)
	case dropLate:
		n.late.Add(1)
		s.warn(&n.warned[warnLate], "service answered after nobody waited any more", "service", label)
	case dropMalformed, dropOversized:
		n.malformed.Add(1)
		s.warn(&n.warned[warnUnnamed], "a reply names no request", "service", label)
	}
}

// countBadReply counts a reply that can't be forwarded, and logs what is wrong with it for the member's author.
func (s *counters) countBadReply(label, member string, reason dropReason, cause error, hint string) {
	n := s.forLabel(label)
	if reason == dropOversized {
		n.oversized.Add(1)
	} else {
		n.malformed.Add(1)
	}
	args := []any{"service", label, "cause", cause}
	if member != "" { // members need not name themselves
		args = append(args, "member", member)
	}
	if hint != "" {
		args = append(args, "hint", hint)
	}
	s.warn(&n.warned[warnInvalid], "service sent an invalid reply", args...)
}

// The kinds of warning about a destination. Each is throttled on its own.
const (
	warnDuplicate = iota
	warnLate
	warnUnnamed
	warnInvalid
	warnKinds
)

// warned is when a kind of warning was last logged, and how many were skipped since.
type warned struct {
	at      atomic.Int64 // unix seconds
	skipped atomic.Uint64
}

// warnEvery is the least time between two warnings of one kind about a destination, so that a broken member doesn't
// flood the log.
const warnEvery = 60 // seconds

// warn logs a warning unless one of its kind was logged lately. It adds how many were skipped since.
func (s *counters) warn(w *warned, msg string, args ...any) {
	now := time.Now().Unix()
	if last := w.at.Load(); now-last < warnEvery || !w.at.CompareAndSwap(last, now) {
		w.skipped.Add(1)
		return
	}
	if n := w.skipped.Swap(0); n > 0 {
		args = append(args, "more_since_last", n)
	}
	s.log.Warn(msg, args...) //nolint:sloglint // the callers' messages are constants
}

// clip limits the length of what a member says about itself.
func clip(s string) string { return s[:min(len(s), 64)] }
