package limit_test

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	"millrace/node"
)

// admission is an allowed request. Times are in Unix nanoseconds of the model's own clock.
type admission struct {
	at, until  int64
	returnedAt int64 // when its permit was refunded or its slot returned; 0 if it wasn't
	skew       int64 // of its node's time
	client     int
	node       *link
	cost       int64
}

func (a *admission) String() string {
	at := time.Unix(0, a.at)
	s := fmt.Sprintf("%s admits client %d with cost %d until %d", at.Format("15:04:05.000000000"), a.client, a.cost,
		a.until)
	if a.node != nil {
		s += " on " + a.node.name
	}
	if a.returnedAt != 0 {
		s += " and gives it back after " + time.Duration(a.returnedAt-a.at).String()
	}
	return s
}

// check returns what is wrong with a run.
func (m *model) check() (bad []string) {
	// Many nodes with one key conflict with each other at a slow store.
	if m.calm && m.errors > 0 && (m.faults.delayed == 0 || m.nodes == 1) {
		bad = append(bad, fmt.Sprintf("%d errors, though nothing failed", m.errors))
	}
	bad = append(bad, m.complaints...)
	for client := range m.clients {
		var h []*admission
		for _, a := range m.admitted {
			if a.client == client {
				h = append(h, a)
			}
		}
		bad = append(bad, m.checkClient(h)...)
	}
	return bad
}

func (m *model) checkClient(h []*admission) (bad []string) {
	l, most := m.limit, int64(m.limit.Max)
	add := func(problem string) {
		if problem != "" {
			bad = append(bad, problem)
		}
	}
	switch m.kind {
	case "sliding":
		add(overSliding(h, most, int64(l.Window.Length)))
	case "bucket":
		interval := int64(l.Window.Length) / most
		add(overBucket(h, interval, m.room()*interval+2*int64(m.skew)+int64(m.late)+m.apart()))
	case "concurrent":
		add(overAtOnce(h, most))
	default:
		add(overWindows(h, most))
		add(misplaced(h, l))
	}
	if m.calm {
		add(m.tooFew(h))
	}
	return bad
}

// apart returns how far the times of two nodes may be apart that have compared their clocks: half of a round trip,
// twice.
func (m *model) apart() int64 {
	switch {
	case m.noClocks || m.nodes == 1:
		return 0
	case m.faults.delayed > 0:
		return int64(min(m.faults.maxDelay, 100*time.Millisecond))
	}
	return int64(time.Millisecond)
}

// spentIn sums what was admitted and not refunded in each window.
func spentIn(h []*admission) map[int64]int64 {
	sums := map[int64]int64{}
	for _, a := range h {
		if a.returnedAt == 0 {
			sums[a.until] += a.cost
		}
	}
	return sums
}

// overWindows finds a window with more than most.
func overWindows(h []*admission, most int64) string {
	for until, sum := range spentIn(h) {
		if sum > most {
			return fmt.Sprintf("%d of %d in the window until %d", sum, most, until)
		}
	}
	return ""
}

// misplaced finds admissions outside their windows, and impossible windows: two that overlap, or one that isn't aligned
// to the clock.
func misplaced(h []*admission, l node.Limit) string {
	var ends []int64
	for _, a := range h {
		if a.at+a.skew >= a.until {
			return fmt.Sprintf("on a clock that is off by %s: %s", time.Duration(a.skew), a)
		}
		if !slices.Contains(ends, a.until) {
			ends = append(ends, a.until)
		}
	}
	slices.Sort(ends)
	for i, end := range ends {
		t := time.Unix(0, end).In(l.Zone.Location())
		_, shift := t.Zone()
		switch {
		case l.Window.Calendar != "":
			if t.Add(-1).Day() == t.Day() || (l.Window.Calendar == node.CalendarMonth && t.Day() != 1) {
				return "a window ends at " + t.String()
			}
		case i > 0 && end-ends[i-1] < int64(l.Window.Length):
			return fmt.Sprintf("a window ends %s after another", time.Duration(end-ends[i-1]))
		case l.Align == node.AlignClock && (end+int64(shift)*int64(time.Second))%int64(l.Window.Length) != 0:
			return "a window ends at " + t.String()
		}
	}
	return ""
}

// inOrder returns the admissions that weren't refunded, by time.
func inOrder(h []*admission) []*admission {
	h = slices.DeleteFunc(slices.Clone(h), func(a *admission) bool { return a.returnedAt != 0 })
	slices.SortFunc(h, func(a, b *admission) int { return cmp.Compare(a.at, b.at) })
	return h
}

// overSliding finds an interval of real time with more than most.
func overSliding(h []*admission, most, length int64) string {
	h = inOrder(h)
	var sum int64
	from := 0
	for _, a := range h {
		for sum += a.cost; h[from].at <= a.at-length; from++ {
			sum -= h[from].cost
		}
		if sum > most {
			return fmt.Sprintf("%d of %d in the %s until %s", sum, most, time.Duration(length),
				time.Unix(0, a.at).Format("15:04:05.000000000"))
		}
	}
	return ""
}

// change is what an admission or its end adds to a sum.
type change struct {
	at, by int64
}

// changes returns all changes in order; at the same time, ends come first.
func changes(h []*admission) []change {
	var out []change
	for _, a := range h {
		out = append(out, change{a.at, a.cost})
		if a.returnedAt != 0 {
			out = append(out, change{a.returnedAt, -a.cost})
		}
	}
	slices.SortFunc(out, func(a, b change) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.by, b.by)) })
	return out
}

// overBucket finds two admissions with more between them than the depth and the time between them allow, at one permit
// per interval. A refunded permit may be spent again from the time of the refund.
func overBucket(h []*admission, interval, depth int64) string {
	var spent int64 // permits as time, less what has passed
	var least int64
	for i, c := range changes(h) {
		if before := spent*interval - c.at; i == 0 || before < least {
			least = before
		}
		spent += c.by
		if over := spent*interval - c.at - least - depth; c.by > 0 && over > 0 {
			return fmt.Sprintf("at %s a permit was spent %s too early", time.Unix(0, c.at).Format("15:04:05.000000000"),
				time.Duration(over))
		}
	}
	return ""
}

// overAtOnce finds more than most at one time.
func overAtOnce(h []*admission, most int64) string {
	var sum int64
	for _, c := range changes(h) {
		if sum += c.by; sum > most {
			return fmt.Sprintf("%d of %d at %s", sum, most, time.Unix(0, c.at).Format("15:04:05.000000000"))
		}
	}
	return ""
}

// tooFew finds demand that was refused although the limit allowed it.
func (m *model) tooFew(h []*admission) string {
	begun, ended, most, window := m.start.UnixNano(), m.start.Add(m.lasts).UnixNano(), int64(m.limit.Max),
		int64(m.limit.Window.Length)
	var sum int64
	for _, a := range h {
		sum += a.cost
	}
	switch m.kind {
	case "concurrent":
		if overAtOnce(h, most-1) == "" {
			return fmt.Sprintf("never %d at once", most)
		}
		return ""
	case "sliding":
		if want := most * int64(m.lasts) / window * 85 / 100; sum < want {
			return fmt.Sprintf("%d in %s, want %d", sum, m.lasts, want)
		}
		return ""
	case "bucket":
		share := int64(98)
		switch {
		case m.nodes > 1 && m.faults.delayed > 0: // small parts of the time line pass before their lease is written
			return ""
		case m.nodes > 1: // they wait for parts of the time line that others have leased and don't use
			share = 40
		case m.faults.delayed > 0: // a request that comes early waits for the store
			share = 95
		}
		want := (int64(m.lasts)/(window/most)+m.room())*share/100 - int64(m.costs)
		if sum < want {
			return fmt.Sprintf("%d in %s, want %d", sum, m.lasts, want)
		}
		return ""
	case "shares":
		begun += int64(3 * time.Second) // until all nodes have share numbers
	}
	return tooFewIn(h, m.limit, begun, ended)
}

// tooFewIn finds a whole window that wasn't used up.
func tooFewIn(h []*admission, l node.Limit, begun, ended int64) string {
	window, full := int64(l.Window.Length), 0
	for until, sum := range spentIn(h) {
		if l.Window.Calendar == "" && (until > ended || until-window < begun) {
			continue
		}
		if full++; sum != int64(l.Max) {
			return fmt.Sprintf("%d of %d in the window until %s", sum, l.Max,
				time.Unix(0, until).Format("15:04:05.000000000"))
		}
	}
	want := int((ended-begun)/window) - 2
	if l.Window.Calendar != "" {
		want = 2
	}
	if full < want {
		return fmt.Sprintf("%d windows in %s, want %d", full, time.Duration(ended-begun), want)
	}
	return ""
}

// The checks find violations.
func TestModelNotices(t *testing.T) {
	at := func(ms ...int64) (h []*admission) { // of cost 1, in the window until 1 s
		for _, t := range ms {
			h = append(h, &admission{at: t * int64(time.Millisecond), until: int64(time.Second), cost: 1})
		}
		return h
	}
	returned := func(h []*admission, i, ms int64) []*admission {
		h[i].returnedAt = ms * int64(time.Millisecond)
		return h
	}
	const ms = int64(time.Millisecond)
	second := node.Limit{Window: node.Window{Length: time.Second}}
	clock := second
	clock.Align, clock.Zone = node.AlignClock, "UTC"
	next := at(500, 600)
	next[1].until = 1900 * ms
	day := node.Limit{Window: node.Window{Calendar: node.CalendarDay}, Zone: "UTC"}
	for _, c := range []struct {
		what string
		bad  bool
		got  string
	}{
		{"as many as the limit", false, overWindows(at(1, 2, 3), 3)},
		{"one too many", true, overWindows(at(1, 2, 3, 4), 3)},
		{"one too many, but one given back", false, overWindows(returned(at(1, 2, 3, 4), 0, 5), 3)},
		{"within its window", false, misplaced(at(999), second)},
		{"after its window", true, misplaced(at(1000), second)},
		{"a window before the last has ended", true, misplaced(next, second)},
		{"a window on the clock", false, misplaced(at(1), clock)},
		{"a window off the clock", true, misplaced(next[1:], clock)},
		{"a day that ends at 0:00:01", true, misplaced(at(1), day)},
		{"two in each window", false, overSliding(at(0, 1, 100, 101, 200), 2, 100*ms)},
		{"three in one", true, overSliding(at(0, 1, 100, 101, 101), 2, 100*ms)},
		{"as many as the bucket, and one for each interval", false, overBucket(at(0, 0, 10, 20, 50, 50), 10*ms, 20*ms)},
		{"one interval too early", true, overBucket(at(0, 0, 9), 10*ms, 20*ms)},
		{"a bucket that never holds more than its size", true, overBucket(at(0, 100, 100, 100), 10*ms, 20*ms)},
		{"spent again when given back", false, overBucket(returned(at(0, 0, 9), 0, 9), 10*ms, 20*ms)},
		{"spent again before it is given back", true, overBucket(returned(at(0, 0, 8), 0, 9), 10*ms, 20*ms)},
		{"two at once", false, overAtOnce(returned(at(0, 1, 2), 0, 2), 2)},
		{"three at once", true, overAtOnce(returned(at(0, 1, 2), 0, 3), 2)},
		{"all of each window", false, tooFewIn(at(1, 2), node.Limit{Max: 2, Window: second.Window}, 0, 2000*ms)},
		{"not all", true, tooFewIn(at(1), node.Limit{Max: 2, Window: second.Window}, 0, 2000*ms)},
		{
			"windows that nothing was admitted in", true,
			tooFewIn(at(1, 2), node.Limit{Max: 2, Window: second.Window}, 0, 9000*ms),
		},
	} {
		if (c.got != "") != c.bad {
			t.Errorf("%s: bad %t, got %q", c.what, c.bad, c.got)
		}
	}
}
