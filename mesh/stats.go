package mesh

import (
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// maxLabels bounds the services that are counted one by one; the rest are counted together under "other".
const maxLabels = 1024

// Stats is what a destination's replies were like since the start. Label is http.NAME, upstream.NAME or nats.
type Stats struct {
	Label                                string
	Local, Retries, Busy, NoMember       uint64 // Local: handed to a member in this process without NATS
	Late, Duplicate, Malformed, Oversize uint64
}

// Stats gives the counts of every destination that had something to count, ordered by label.
func (c *Conn) Stats() []Stats {
	var out []Stats
	c.stats.byLabel.Range(func(label, v any) bool {
		n := v.(*counts) //nolint:forcetypeassert // the map holds nothing else
		out = append(out, Stats{
			Label: label.(string), Local: n.local.Load(), Retries: n.retries.Load(), Busy: n.busy.Load(), NoMember: n.noMember.Load(), //nolint:forcetypeassert // see above
			Late: n.late.Load(), Duplicate: n.duplicate.Load(), Malformed: n.malformed.Load(),
			Oversize: n.oversized.Load(),
		})
		return true
	})
	slices.SortFunc(out, func(a, b Stats) int { return strings.Compare(a.Label, b.Label) })
	return out
}

// InFlight is the number of tries that wait for a reply at this moment.
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
	fullUntil                             atomic.Int64 // unix nanoseconds until when nobody is believed to have room
	budget                                *Budget      // of second tries
}

// askOn reports whether a call that so many full members refused should ask again.
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
		return v.(*counts) //nolint:forcetypeassert // the map holds nothing else
	}
	if s.labels.Add(1) > maxLabels {
		label = "other"
	}
	v, _ := s.byLabel.LoadOrStore(label, &counts{budget: NewBudget()})
	return v.(*counts) //nolint:forcetypeassert // the map holds nothing else
}

// known is at for labels that a client may have made up: one that never had a reply is counted under "other".
func (s *counters) forKnownLabel(label string) *counts {
	if v, ok := s.byLabel.Load(label); ok {
		return v.(*counts) //nolint:forcetypeassert // the map holds nothing else
	}
	return s.forLabel("other")
}

// dropped counts a reply that nobody waits for. Second replies come from a member in another queue group, or from one
// that answers twice: both are mistakes worth a warning.
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

// badReply counts a reply that can't be passed on, and tells its author what is wrong with it.
func (s *counters) countBadReply(label, member string, reason dropReason, cause error, hint string) {
	n := s.forLabel(label)
	if reason == dropOversized {
		n.oversized.Add(1)
	} else {
		n.malformed.Add(1)
	}
	args := []any{"service", label, "cause", cause}
	if member != "" { // it may leave out who it is
		args = append(args, "member", member)
	}
	if hint != "" {
		args = append(args, "hint", hint)
	}
	s.warn(&n.warned[warnInvalid], "service sent an invalid reply", args...)
}

// What a destination is warned about, each on its own.
const (
	warnDuplicate = iota
	warnLate
	warnUnnamed
	warnInvalid
	warnKinds
)

// warned is when there was a warning of one kind, and how many weren't written since.
type warned struct {
	at      atomic.Int64 // unix seconds
	skipped atomic.Uint64
}

// warnEvery is how often there is a warning of one kind about a destination at most: a broken member must not flood
// the log.
const warnEvery = 60 // seconds

// warn logs unless there was such a warning lately, and says then how many there were in between.
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

// clip bounds what a member says about itself.
func clip(s string) string { return s[:min(len(s), 64)] }
