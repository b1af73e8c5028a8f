package limit

import "time"

// kind is how a rule counts.
type kind byte

const (
	fixed kind = iota + 1
	sliding
	bucket
	concurrent
)

// ask is what a node wants from a record.
type ask struct {
	now   int64  // in Unix nanoseconds
	least uint32 // permits that requests wait for
	last  uint32 // permits of the lease before, if it is used up already; 0 if it isn't or has ended
	nodes uint32 // that are there, this one included
	until int64  // the end of the lease before
	lease bool   // there was one in the window that ends then
	back  uint32 // permits of it that return, unspent
	// Buckets: up to where it was spent.
	spentTo int64
	ahead   int64 // buckets: how far into the future positions are leased, in nanoseconds
	early   int64 // buckets: how long before its time a permit is of use
	takes   int64 // buckets: how long the lease before took to be read and written
}

// granted is what a record gives.
type granted struct {
	permits uint32
	from    int64  // buckets: where the leased part begins, in Unix nanoseconds
	until   int64  // when they end; of a bucket, where the part ends
	left    uint32 // permits that the record could still give
	retry   int64  // when it may give one more
}

// lease takes permits out of the record, changing it, as many as seem useful: at least what is waited for, if there are
// so many.
func (r *Rule) lease(rec *record, a ask) granted {
	switch r.kind {
	case sliding:
		return r.leaseSliding(rec, a)
	case bucket:
		return r.leaseBucket(rec, a)
	case fixed, concurrent:
	}
	return r.leaseFixed(rec, a)
}

// size says how many of left permits one lease takes. It doubles from one lease to the next, and leaves half to the
// others until little is left: so a hot key costs few leases, and what a dying node takes with it is bounded.
func (r *Rule) size(a ask, left, nodes uint32) uint32 {
	half := max(left/(2*max(nodes, 1))+1, r.max/64)
	useful := max(2*a.last, r.max/16, 1)
	return min(left, max(a.least, min(useful, half)))
}

// leaseFixed is for windows one after another. A window begins when the record is asked for after the end of the one
// before, by the clock of the node that asks; all others take it over from the record. So one window never has more
// than max permits, whatever the clocks say.
func (r *Rule) leaseFixed(rec *record, a ask) granted {
	if a.now >= rec.end {
		start, end := r.windowAt(a.now)
		*rec = record{start: start, end: end}
	}
	if !a.lease || a.until != rec.end {
		rec.active++
	}
	var left uint32
	if pool := r.pool(); pool > rec.granted {
		left = pool - rec.granted
	}
	n := r.size(a, left, rec.active)
	rec.granted += n
	return granted{permits: n, until: rec.end, left: left - n, retry: rec.end}
}

// bring makes a record that was written when the limits' time was ahead one of now: as if it had been written at this
// moment. So what was spent stays spent, and no window lasts longer than from now on. It isn't for records that were
// written before now, which may be any time ago.
func (r *Rule) bring(rec *record, wrote, now int64) {
	if wrote == 0 { // by a release that didn't say when: at the beginning of what it last wrote
		wrote = max(rec.start, rec.newest*(r.window/spansPerWindow))
	}
	by := now - wrote
	if by >= -agreeWithin {
		return
	}
	switch span := max(r.window/spansPerWindow, 1); r.kind {
	case fixed:
		if rec.start, rec.end = rec.start+by, rec.end+by; r.clock {
			rec.start, rec.end = r.windowAt(now)
		}
	case sliding:
		rec.newest -= -by / span
	case bucket:
		rec.last += by
	case concurrent: // see readHolders
	}
}

// windowAt is the window that begins at now, or that is at now on the clock.
func (r *Rule) windowAt(now int64) (start, end int64) {
	switch {
	case r.calendar == calendarDay:
		t := time.Unix(0, now).In(r.zone)
		return r.midnight(t.Year(), t.Month(), t.Day()), r.midnight(t.Year(), t.Month(), t.Day()+1)
	case r.calendar == calendarMonth:
		t := time.Unix(0, now).In(r.zone)
		return r.midnight(t.Year(), t.Month(), 1), r.midnight(t.Year(), t.Month()+1, 1)
	case !r.clock:
		return now, now + r.window
	}
	_, offset := time.Unix(0, now).In(r.zone).Zone()
	shift := int64(offset) * int64(time.Second)
	start = now - (now+shift)%r.window
	return start, start + r.window
}

// midnight is when a day begins. Where clocks are put forward at midnight that is later: the moment that the calendar
// has for it is of the day before.
func (r *Rule) midnight(year int, month time.Month, day int) int64 {
	t := time.Date(year, month, day, 0, 0, 0, 0, r.zone)
	noon := time.Date(year, month, day, 12, 0, 0, 0, r.zone)
	for t.Day() != noon.Day() {
		t = t.Add(15 * time.Minute)
	}
	return t.UnixNano()
}

// leaseSliding is for windows that end now: permits are leased for the span of the moment, if those of the spans that
// any window could share with it leave room. What a lease before didn't spend returns to its span.
func (r *Rule) leaseSliding(rec *record, a ask) granted {
	span := r.window / spansPerWindow
	current := max(a.now/span, rec.newest) // another clock may be ahead
	rec.advance(current)
	if i := current - (a.until/span - 1); i >= 0 && i < spanSlots {
		rec.spans[i] -= min(a.back, rec.spans[i])
	}
	left := r.max - min(rec.sum(spanSlots), r.max)
	n := r.size(a, left, a.nodes)
	rec.spans[0] += n
	return granted{
		permits: n, until: (current + 1) * span, left: left - n, retry: r.slidesAt(rec, current*span),
	}
}

// slidesAt is when enough spans will have left the window for one more permit.
func (r *Rule) slidesAt(rec *record, current int64) int64 {
	span := r.window / spansPerWindow
	for gone := 1; gone < spanSlots; gone++ {
		if rec.sum(spanSlots-gone) < r.max {
			return current + int64(gone)*span
		}
	}
	return current + spanSlots*span
}

// advance makes the given span the newest.
func (r *record) advance(to int64) {
	by := to - r.newest
	switch {
	case by >= spanSlots || r.newest == 0:
		r.spans = [spanSlots]uint32{}
	case by > 0:
		copy(r.spans[by:], r.spans[:spanSlots-by])
		clear(r.spans[:by])
	}
	r.newest = max(r.newest, to)
}

// sum is how much was leased in the newest n spans.
func (r *record) sum(n int) uint32 {
	var sum uint64
	for _, s := range r.spans[:n] {
		sum += uint64(s)
	}
	return uint32(min(sum, 1<<32-1))
}

// leaseBucket is for token buckets, as GCRA (ITU-T I.371) does it, with leases: a node leases a part of the bucket's
// time line, which all nodes share, and each permit takes an interval of that part for itself, which begins at or after
// the moment when it is spent and ends within the depth of the bucket (burst times the interval). So what is spent in
// any span d of real time lies, without overlap, in a span of d and the depth: that is at most burst + d/interval. What
// of a part isn't spent in time is lost, as tokens are that a full bucket can't take.
func (r *Rule) leaseBucket(rec *record, a ask) granted {
	if a.until != 0 && a.until == rec.last { // nobody has leased since: what wasn't spent returns
		rec.last = min(rec.last, a.spentTo)
	}
	begin := max(rec.last, a.now)
	out := granted{retry: begin + r.interval - r.depth - a.early, from: begin}
	if room := a.now + r.depth + a.ahead - begin; room > 0 {
		out.left = uint32(min(room/r.interval, 1<<31)) //nolint:gosec // G115: bounded
	}
	half := out.left/(2*a.nodes) + 1
	useful := min(2*a.last, half)
	if a.nodes == 1 { // nobody else wants them, but what a node has when it dies is lost
		burst, ahead := uint32(r.depth/r.interval), uint32(a.ahead/r.interval) //nolint:gosec // G115: bounded by the limit
		useful = min(max(2*a.last, burst/16, 1), max(half, ahead))
	}
	if out.permits = min(out.left, max(a.least, useful)); out.permits == 0 {
		return out
	}
	out.left -= out.permits
	length := int64(out.permits) * r.interval
	rec.last = begin + length + r.slack(begin-a.now, a.takes)
	out.until, out.retry = rec.last, rec.last+r.interval-r.depth-a.early
	return out
}

// leaseSlack is how much more of the time line is leased than the permits take, if an interval isn't long; mostSlack if
// it is, or the store slow.
const (
	leaseSlack = 20 * time.Millisecond
	mostSlack  = 500 * time.Millisecond
)

// slack is for permits whose intervals begin at once: they are spent only when the lease has been written, and end that
// much later. Those that begin later need some too, or they could be spent in one single moment; but for requests that
// wait for just that moment.
func (r *Rule) slack(ahead, takes int64) int64 {
	var least int64
	if !r.queues.on {
		least = min(r.interval/8, int64(leaseSlack))
	}
	return max(min(max(int64(leaseSlack), r.interval/4, 2*takes), int64(mostSlack))-ahead, least)
}

// keep is how long the store must keep the record: as long as anybody may count on it.
func (r *Rule) keep(rec *record, now int64) time.Duration {
	end := rec.end
	switch r.kind {
	case sliding:
		end = now + r.window/spansPerWindow*(spanSlots+1)
	case bucket:
		end = rec.last
	case fixed, concurrent:
	}
	return max(time.Duration(end-now), 0) + keepMargin
}

const keepMargin = 10 * time.Second // clocks differ
