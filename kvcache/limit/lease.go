package limit

import "time"

// kind is the algorithm of a rule.
type kind byte

const (
	fixed kind = iota + 1
	sliding
	bucket
	concurrent
)

// leaseRequest is what a node asks of a record.
type leaseRequest struct {
	now      int64  // in Unix nanoseconds
	waiting  uint32 // permits that requests are waiting for
	previous uint32 // permits of the previous lease if it is used up; 0 if it isn't, or has ended
	nodes    uint32 // number of nodes, this one included
	until    int64  // end of the previous lease
	known    bool   // the node has had a lease in the window that ends at until
	returned uint32 // unspent permits of the previous lease
	// Buckets: the end of what was spent of the previous lease.
	spentTo     int64
	ahead       int64 // buckets: how far into the future positions are leased, in nanoseconds
	usableAhead int64 // buckets: how long before its time a permit can be used by requests that queue
	leaseTook   int64 // buckets: how long the previous lease took to read and write
}

// leaseGrant is what a record gives.
type leaseGrant struct {
	permits uint32
	from    int64  // buckets: where the leased part begins, in Unix nanoseconds
	until   int64  // when the permits end; of a bucket, where the leased part ends
	left    uint32 // permits that the record could still give
	retry   int64  // when the record may have one more
}

// lease takes permits out of the record, which it changes: as many as seem useful, and at least a.waiting if there are
// that many.
func (r *Rule) lease(rec *record, a leaseRequest) leaseGrant {
	switch r.kind {
	case sliding:
		return r.leaseSliding(rec, a)
	case bucket:
		return r.leaseBucket(rec, a)
	case fixed, concurrent:
	}
	return r.leaseFixed(rec, a)
}

// leaseSize returns how many of the left permits one lease takes. The size doubles from lease to lease, and half is
// left to the other nodes until little remains. So a hot key needs few leases, and a node that dies loses a bounded
// amount.
func (r *Rule) leaseSize(a leaseRequest, left, nodes uint32) uint32 {
	half := max(left/(2*max(nodes, 1))+1, r.max/64)
	useful := max(2*a.previous, r.max/16, 1)
	return min(left, max(a.waiting, min(useful, half)))
}

// leaseFixed leases from consecutive windows. A window begins when a node asks for the record after the end of the
// previous window, by that node's time. All other nodes take the window from the record, so no window has more than max
// permits, whatever the clocks say.
func (r *Rule) leaseFixed(rec *record, a leaseRequest) leaseGrant {
	if a.now >= rec.end {
		start, end := r.windowAt(a.now)
		*rec = record{start: start, end: end}
	}
	if !a.known || a.until != rec.end {
		rec.active++
	}
	var left uint32
	if pool := r.pool(); pool > rec.granted {
		left = pool - rec.granted
	}
	n := r.leaseSize(a, left, rec.active)
	rec.granted += n
	return leaseGrant{permits: n, until: rec.end, left: left - n, retry: rec.end}
}

// rebase moves a record that was written when the limits' time was ahead to the present, as if it had been written now.
// What was spent stays spent, and the window ends no later than one that begins now. Records with an earlier time
// aren't changed: they may be of any age.
func (r *Rule) rebase(rec *record, wrote, now int64) {
	if wrote == 0 { // an earlier release wrote no time: assume the start of what it wrote last
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
	case concurrent: // see decodeLeases
	}
}

// windowAt returns the window that begins at now, or for windows on the clock the one that contains now.
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

// midnight returns when a day begins. If the clock skips midnight, that is later: time.Date would return a moment of
// the day before.
func (r *Rule) midnight(year int, month time.Month, day int) int64 {
	t := time.Date(year, month, day, 0, 0, 0, 0, r.zone)
	noon := time.Date(year, month, day, 12, 0, 0, 0, r.zone)
	for t.Day() != noon.Day() {
		t = t.Add(15 * time.Minute)
	}
	return t.UnixNano()
}

// leaseSliding leases for windows that end now. Permits are leased for the current span, as far as the spans that a
// window could share with it leave some. Unspent permits of the previous lease return to their span.
func (r *Rule) leaseSliding(rec *record, a leaseRequest) leaseGrant {
	span := r.window / spansPerWindow
	current := max(a.now/span, rec.newest) // another node's clock may be ahead
	rec.advance(current)
	if i := current - (a.until/span - 1); i >= 0 && i < keptSpans {
		rec.spans[i] -= min(a.returned, rec.spans[i])
	}
	left := r.max - min(rec.sum(keptSpans), r.max)
	n := r.leaseSize(a, left, a.nodes)
	rec.spans[0] += n
	return leaseGrant{
		permits: n, until: (current + 1) * span, left: left - n, retry: r.slidesAt(rec, current*span),
	}
}

// slidesAt returns when enough spans will have left the window for one more permit.
func (r *Rule) slidesAt(rec *record, current int64) int64 {
	span := r.window / spansPerWindow
	for gone := 1; gone < keptSpans; gone++ {
		if rec.sum(keptSpans-gone) < r.max {
			return current + int64(gone)*span
		}
	}
	return current + keptSpans*span
}

// advance makes to the newest span.
func (r *record) advance(to int64) {
	by := to - r.newest
	switch {
	case by >= keptSpans || r.newest == 0:
		r.spans = [keptSpans]uint32{}
	case by > 0:
		copy(r.spans[by:], r.spans[:keptSpans-by])
		clear(r.spans[:by])
	}
	r.newest = max(r.newest, to)
}

// sum returns how many permits were leased in the newest n spans.
func (r *record) sum(n int) uint32 {
	var sum uint64
	for _, s := range r.spans[:n] {
		sum += uint64(s)
	}
	return uint32(min(sum, 1<<32-1))
}

// leaseBucket leases from a token bucket, as in GCRA (ITU-T I.371). All nodes share the bucket's time line, and a node
// leases a part of it. Each permit takes an interval of that part, which begins at or after the moment it is spent and
// ends within the depth of the bucket (burst times the interval) from then. So the intervals of the permits spent in
// any span d of real time lie, without overlap, in a span of d plus the depth: that is at most burst + d/interval
// permits. What isn't spent of a part in time is lost, like tokens that a full bucket can't take.
func (r *Rule) leaseBucket(rec *record, a leaseRequest) leaseGrant {
	if a.until != 0 && a.until == rec.last { // no node has leased since: what wasn't spent returns
		rec.last = min(rec.last, a.spentTo)
	}
	begin := max(rec.last, a.now)
	out := leaseGrant{retry: begin + r.interval - r.depth - a.usableAhead, from: begin}
	if room := a.now + r.depth + a.ahead - begin; room > 0 {
		out.left = uint32(min(room/r.interval, 1<<31)) //nolint:gosec // G115: bounded
	}
	half := out.left/(2*a.nodes) + 1
	useful := min(2*a.previous, half)
	if a.nodes == 1 { // no other node wants them, but they are lost if this node dies
		burst, ahead := uint32(r.depth/r.interval), uint32(a.ahead/r.interval) //nolint:gosec // G115: bounded by the limit
		useful = min(max(2*a.previous, burst/16, 1), max(half, ahead))
	}
	if out.permits = min(out.left, max(a.waiting, useful)); out.permits == 0 {
		return out
	}
	out.left -= out.permits
	length := int64(out.permits) * r.interval
	rec.last = begin + length + r.slack(begin-a.now, a.leaseTook)
	out.until, out.retry = rec.last, rec.last+r.interval-r.depth-a.usableAhead
	return out
}

// leaseSlack is how much longer the leased part of the time line is than its permits need. For long intervals or a slow
// store it is more, up to mostSlack.
const (
	leaseSlack = 20 * time.Millisecond
	mostSlack  = 500 * time.Millisecond
)

// slack returns the extra length of a leased part. Permits whose intervals begin at once are spent only after the lease
// has been written, so their intervals end that much later. Later permits need some slack too, or they could only be
// spent at one single moment; requests in a queue wait for just that moment and need none.
func (r *Rule) slack(ahead, takes int64) int64 {
	var least int64
	if !r.queues.on {
		least = min(r.interval/8, int64(leaseSlack))
	}
	return max(min(max(int64(leaseSlack), r.interval/4, 2*takes), int64(mostSlack))-ahead, least)
}

// keep returns how long the store must keep the record: for as long as a node may rely on it.
func (r *Rule) keep(rec *record, now int64) time.Duration {
	end := rec.end
	switch r.kind {
	case sliding:
		end = now + r.window/spansPerWindow*(keptSpans+1)
	case bucket:
		end = rec.last
	case fixed, concurrent:
	}
	return max(time.Duration(end-now), 0) + keepMargin
}

const keepMargin = 10 * time.Second // the clocks of nodes and servers differ
