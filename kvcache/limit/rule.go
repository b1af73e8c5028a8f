package limit

import (
	"crypto/sha256"
	"hash/maphash"
	"strconv"
	"sync/atomic"
	"time"

	"millrace/node"
)

// Rule is one limit, for any number of keys. It is made by Limiter.SetRules and safe for concurrent use.
type Rule struct {
	Name  string
	Limit node.Limit

	l        *Limiter
	id       string // tells its records from those of others
	kind     kind
	max      uint32
	window   int64 // in nanoseconds
	calendar calendar
	clock    bool // windows are those of the clock
	zone     *time.Location
	interval int64 // buckets: between two permits, in nanoseconds
	depth    int64 // buckets: burst times the interval

	slots uint32 // parts that are reserved for one node each; 0 if none are
	share uint32 // permits of each

	queues *queues
	places *places // of a limit on requests in flight

	stats *ruleStats

	known [256]atomic.Pointer[knownKey] // by a hash of the client
}

type calendar byte

const (
	calendarDay calendar = iota + 1
	calendarMonth
)

// Key names the one whose requests are counted together, for one rule. It is a hash: 128 bits, so that nobody finds two
// clients with one key.
type Key [16]byte

// Key gives the key of a client, as the rule's key parts name it: the text of an address, a field's value.
func (r *Rule) Key(client []byte) Key {
	slot := &r.known[maphash.Bytes(knownSeed, client)%uint64(len(r.known))]
	if k := slot.Load(); k != nil && k.client == string(client) {
		return k.key
	}
	var room [192]byte
	b := append(room[:0], r.id...)
	b = append(b, 0)
	b = append(b, client...)
	sum := sha256.Sum256(b)
	key := Key(sum[:16])
	if len(client) <= longestKnown {
		slot.Store(&knownKey{string(client), key})
	}
	return key
}

// knownKey is a client with its key: most requests come from clients that have just sent one, and the hash is the
// dearest part of a limit.
type knownKey struct {
	client string
	key    Key
}

const longestKnown = 128 // bytes

var knownSeed = maphash.MakeSeed()

func newRule(l *Limiter, name string, limit node.Limit) *Rule {
	r := &Rule{Name: name, Limit: limit, l: l, max: uint32(limit.Max), window: int64(limit.Window.Length), stats: &ruleStats{}} //nolint:gosec // G115: validated
	r.zone, r.clock = limit.Zone.Location(), limit.Align == node.AlignClock || limit.Window.Calendar != ""
	r.id = name + "|" + string(limit.Algorithm) + "|" + limit.Window.String()
	if r.clock {
		r.id += "|clock|" + string(limit.Zone)
	}
	switch limit.Window.Calendar {
	case node.CalendarDay:
		r.calendar = calendarDay
	case node.CalendarMonth:
		r.calendar = calendarMonth
	}
	switch limit.Algorithm {
	case node.AlgorithmSliding:
		r.kind = sliding
	case node.AlgorithmBucket:
		r.kind = bucket
		r.interval = max(r.window/int64(max(limit.Max, 1)), 1)
		r.depth = r.interval * int64(limit.Room())
	case node.AlgorithmConcurrent:
		r.kind, r.places = concurrent, newPlaces()
	case node.AlgorithmFixed:
		r.kind = fixed
	}
	r.queues = newQueues(limit)
	r.reserve(limit)
	return r
}

// reserve sets a part of the limit aside for each slot, which its holder spends without asking: half of the limit in
// all.
func (r *Rule) reserve(limit node.Limit) {
	if r.kind != fixed || !r.clock || limit.StoreAway != node.StoreAwayShare {
		return
	}
	r.slots = uint32(r.l.cfg.Slots) //nolint:gosec // G115: a few
	r.share = r.max / 2 / r.slots
	r.id += "|" + strconv.Itoa(int(r.slots))
}

// pool is what stands in the record: the limit without what is reserved.
func (r *Rule) pool() uint32 { return r.max - r.slots*r.share }

// with gives the rule as the newer one has it, with what runs and was counted under this one.
func (r *Rule) with(newer *Rule) *Rule {
	if newer.stats, newer.places = r.stats, r.places; newer.queues.like(r.queues) {
		newer.queues = r.queues
	}
	return newer
}

// entry is what this node knows of a key, with its own part of the window that runs. The caller holds the shard's lock.
func (r *Rule) entry(s *shard, key Key, now int64) (e entry, found bool) {
	e, found = s.entries.get(key)
	if r.share > 0 && (!found || now >= e.until) {
		if own, begun := r.begin(s, key, now); begun {
			return own, true
		}
	}
	return e, found
}

// begin opens the window of this moment with the node's own part of it, if it has one: it must have held its slot since
// before the window began, so that nobody else has spent the part. The caller holds the lock.
func (r *Rule) begin(s *shard, key Key, now int64) (entry, bool) {
	start, end := r.windowAt(now)
	if end <= s.full || !r.l.slot.held(start) {
		return entry{}, false
	}
	e := entry{until: end, permits: r.share, leased: r.share, flags: shared}
	s.put(key, e, r.l.table.max, now)
	return e, true
}

// ruleStats counts what became of requests.
type ruleStats struct {
	allowed, denied, queued, away, shadowed atomic.Uint64
}

// RuleStats is what became of a rule's requests on this node.
type RuleStats struct {
	Rule string
	// shadowed ones are among the denied, queued ones among the others too
	Allowed, Denied, Queued, Away, Shadowed uint64
}

// Stats gives the counts.
func (r *Rule) Stats() RuleStats {
	s := r.stats
	return RuleStats{r.Name, s.allowed.Load(), s.denied.Load(), s.queued.Load(), s.away.Load(), s.shadowed.Load()}
}

// Shadowed counts a refused request that passes all the same.
func (r *Rule) Shadowed() { r.stats.shadowed.Add(1) }

// Decision is what became of a request.
type Decision struct {
	Allowed   bool
	Limit     uint32
	Remaining uint32        // permits that this node knows of; others may hold more
	Reset     time.Duration // until there are more
	until     int64         // the end of the permit that was spent, for Refund
	end       int64         // of a bucket: of the interval that was spent
}

// verdict of try.
type verdict byte

const (
	unknown verdict = iota // the record must be asked
	allowed
	denied
)

// Try decides with what this node has in memory, at a moment of now or a little before, as time.Now gave it. False
// means that it can't, and that Take must be asked.
func (r *Rule) Try(now time.Time, key Key, cost uint32) (Decision, bool) {
	if r.kind == concurrent || (r.queues.on && r.queues.busy(key)) {
		return Decision{}, false
	}
	d, v := r.try(r.l.clock.of(now), key, cost)
	if v == allowed {
		r.stats.allowed.Add(1)
	}
	return d, v == allowed
}

// try spends permits that the node holds.
func (r *Rule) try(now int64, key Key, cost uint32) (Decision, verdict) {
	s := r.l.table.of(key)
	s.mu.Lock()
	e, found := s.entries.get(key)
	if r.share > 0 && (!found || now >= e.until) { // as entry does: a call more would cost each request 14 ns
		e, found = r.begin(s, key, now)
	}
	if !found {
		s.mu.Unlock()
		return Decision{Limit: r.max}, unknown
	}
	d, v := r.spend(&e, now, cost)
	if v == allowed {
		s.entries.set(key, e)
	}
	s.mu.Unlock()
	if v == allowed && e.permits < e.leased/4 && e.left > 0 && r.kind != bucket {
		r.l.prefetch(r, key)
	}
	return d, v
}

// spend decides for an entry, and takes the permits out of it.
func (r *Rule) spend(e *entry, now int64, cost uint32) (Decision, verdict) {
	if r.kind == bucket {
		return r.spendBucket(e, now, cost)
	}
	d := Decision{Limit: r.max, until: e.until, Reset: time.Duration(e.until - now)}
	switch {
	case now < e.until && e.permits >= cost:
		e.permits -= cost
		d.Allowed, d.Remaining = true, e.permits+e.left
		return d, allowed
	case now < e.denied:
		d.Reset = time.Duration(max(e.until, e.denied) - now)
		return d, denied
	}
	return d, unknown
}

// spendBucket is spend for a bucket: each permit takes the next interval of the part of the time line that the node has
// leased, but not before now, and may be spent when its interval ends within the bucket's depth. See leaseBucket for
// why that is never too much.
func (r *Rule) spendBucket(e *entry, now int64, cost uint32) (Decision, verdict) {
	d := r.inBucket(e)
	end := max(e.spentTo(), now) + int64(cost)*r.interval
	wait := end - r.depth - now
	switch {
	case end <= e.until && wait <= 0:
		e.spendTo(end)
		d.end = end
		d.Allowed, d.Remaining = true, uint32(max((now+r.depth-end)/r.interval, 0)) //nolint:gosec // G115: at most the burst
		return d, allowed
	case end <= e.until: // leased ahead
		d.Reset = time.Duration(wait)
		return d, denied
	case now < e.denied:
		d.Reset = time.Duration(e.denied - now)
		return d, denied
	}
	return d, unknown
}

// inBucket is what decisions about a bucket have in common.
func (r *Rule) inBucket(e *entry) Decision {
	return Decision{Limit: uint32(r.depth / r.interval), until: e.until, Reset: time.Duration(r.interval)} //nolint:gosec // G115: the burst
}

// Refund gives back what a decision has spent, if its window hasn't ended.
func (r *Rule) Refund(now time.Time, key Key, d Decision, cost uint32) {
	s := r.l.table.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, found := s.entries.get(key)
	if !found || !d.Allowed || e.until != d.until || r.l.clock.of(now) >= e.until {
		return
	}
	switch {
	case r.kind != bucket:
		e.permits += cost
	case e.spentTo() == d.end: // the last one; others lie between those that were spent since, and can't be had again
		e.spendTo(d.end - int64(cost)*r.interval)
	}
	s.entries.set(key, e)
}
