package limit

import (
	"crypto/sha256"
	"hash/maphash"
	"strconv"
	"sync/atomic"
	"time"

	"millrace/node"
)

// Rule is one limit, for any number of keys. Limiter.SetRules makes it. It is safe for concurrent use.
type Rule struct {
	Name  string
	Limit node.Limit

	l        *Limiter
	id       string // distinguishes its records from those of other rules
	kind     kind
	max      uint32
	window   int64 // in nanoseconds
	calendar calendar
	clock    bool // windows are aligned to the clock
	zone     *time.Location
	interval int64 // buckets: time between two permits, in nanoseconds
	depth    int64 // buckets: burst times the interval

	shares       uint32 // number of shares, each reserved for one node; 0 if there are none
	sharePermits uint32 // permits of each share

	queues   *queues
	inflight *inflight // set if the rule limits requests in flight

	stats *ruleStats

	keyCache [256]atomic.Pointer[cachedKey] // indexed by a hash of the client
}

type calendar byte

const (
	calendarDay calendar = iota + 1
	calendarMonth
)

// Key identifies the requests that one rule counts together. It is a hash of 128 bits, so that nobody can find two
// clients with one key.
type Key [16]byte

// Key returns the key of a client, which is the text that the rule's key names: an address, or a field's value.
func (r *Rule) Key(client []byte) Key {
	cached := &r.keyCache[maphash.Bytes(keyCacheSeed, client)%uint64(len(r.keyCache))]
	if k := cached.Load(); k != nil && k.client == string(client) {
		return k.key
	}
	var buf [192]byte
	b := append(buf[:0], r.id...)
	b = append(b, 0)
	b = append(b, client...)
	sum := sha256.Sum256(b)
	key := Key(sum[:16])
	if len(client) <= maxCachedClient {
		cached.Store(&cachedKey{string(client), key})
	}
	return key
}

// cachedKey is a client with its key. Most requests come from clients that have just sent one, and the hash is the most
// expensive part of a limit.
type cachedKey struct {
	client string
	key    Key
}

const maxCachedClient = 128 // bytes

var keyCacheSeed = maphash.MakeSeed()

func newRule(l *Limiter, name string, limit node.Limit) *Rule {
	r := &Rule{
		Name: name, Limit: limit, l: l, max: uint32(limit.Max), //nolint:gosec // G115: validated
		window: int64(limit.Window.Length), stats: &ruleStats{},
	}
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
		r.kind, r.inflight = concurrent, newInflight()
	case node.AlgorithmFixed:
		r.kind = fixed
	}
	r.queues = newQueues(limit)
	r.divide(limit)
	return r
}

// divide reserves half of the limit in equal shares. A node spends its share without asking the store.
func (r *Rule) divide(limit node.Limit) {
	if r.kind != fixed || !r.clock || limit.StoreAway != node.StoreAwayShare {
		return
	}
	r.shares = uint32(r.l.cfg.Slots) //nolint:gosec // G115: a few
	r.sharePermits = r.max / 2 / r.shares
	r.id += "|" + strconv.Itoa(int(r.shares))
}

// pool returns how many permits the record has: the limit without the shares.
func (r *Rule) pool() uint32 { return r.max - r.shares*r.sharePermits }

// inherit returns the newer version of the rule, with the state of this one: statistics, slots, and queues if their
// settings are the same.
func (r *Rule) inherit(newer *Rule) *Rule {
	if newer.stats, newer.inflight = r.stats, r.inflight; newer.queues.sameSettings(r.queues) {
		newer.queues = r.queues
	}
	return newer
}

// entry returns what this node knows about a key, with its share of the current window. The caller holds the shard's
// lock.
func (r *Rule) entry(s *shard, key Key, now int64) (e entry, found bool) {
	e, found = s.entries.get(key)
	if r.sharePermits > 0 && (!found || now >= e.until) {
		if shared, begun := r.beginWindow(s, key, now); begun {
			return shared, true
		}
	}
	return e, found
}

// beginWindow starts the current window with the node's share. It does nothing unless the node has held its share
// number since before the window began; otherwise another node may have spent that share. The caller holds the shard's
// lock.
func (r *Rule) beginWindow(s *shard, key Key, now int64) (entry, bool) {
	start, end := r.windowAt(now)
	if end <= s.noShareUntil || !r.l.share.heldSince(start) {
		return entry{}, false
	}
	e := entry{until: end, permits: r.sharePermits, leased: r.sharePermits, flags: hasShare}
	s.put(key, e, r.l.table.maxPerShard, now)
	return e, true
}

// ruleStats counts the decisions of a rule.
type ruleStats struct {
	allowed, denied, queued, away, shadowed atomic.Uint64
}

// RuleStats counts the decisions of a rule on this node.
type RuleStats struct {
	Rule string
	// Shadowed requests are among the denied, and queued ones are among the others too.
	Allowed, Denied, Queued, Away, Shadowed uint64
}

// Stats returns the counts.
func (r *Rule) Stats() RuleStats {
	s := r.stats
	return RuleStats{r.Name, s.allowed.Load(), s.denied.Load(), s.queued.Load(), s.away.Load(), s.shadowed.Load()}
}

// Shadowed counts a refused request that is let through in shadow mode.
func (r *Rule) Shadowed() { r.stats.shadowed.Add(1) }

// Decision is the result for one request.
type Decision struct {
	Allowed   bool
	Limit     uint32
	Remaining uint32        // permits that this node knows about; other nodes may hold more
	Reset     time.Duration // time until there are more
	until     int64         // end of the spent permit, for Refund
	end       int64         // buckets: end of the interval that was spent
}

// verdict is the result of try.
type verdict byte

const (
	undecided verdict = iota // only the record can tell
	allowed
	denied
)

// Try decides from memory. now is the current time or a little earlier, from time.Now. It reports false if it can't
// decide; then the caller must use Take.
func (r *Rule) Try(now time.Time, key Key, cost uint32) (Decision, bool) {
	if r.kind == concurrent || (r.queues.on && r.queues.hasWaiters(key)) {
		return Decision{}, false
	}
	d, v := r.try(r.l.clock.at(now), key, cost)
	if v == allowed {
		r.stats.allowed.Add(1)
	}
	return d, v == allowed
}

// try spends permits that this node holds.
func (r *Rule) try(now int64, key Key, cost uint32) (Decision, verdict) {
	s := r.l.table.shardOf(key)
	s.mu.Lock()
	e, found := s.entries.get(key)
	if r.sharePermits > 0 && (!found || now >= e.until) { // like entry, inlined: the call would cost each request 14 ns
		e, found = r.beginWindow(s, key, now)
	}
	if !found {
		s.mu.Unlock()
		return Decision{Limit: r.max}, undecided
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

// spend decides from an entry, and takes the permits out of it.
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
	case now < e.deniedUntil:
		d.Reset = time.Duration(max(e.until, e.deniedUntil) - now)
		return d, denied
	}
	return d, undecided
}

// spendBucket is spend for a bucket. The permit takes the next interval of the leased part of the time line, but not
// before now. It may be spent when that interval ends within the bucket's depth. leaseBucket explains why that never
// exceeds the limit.
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
	case end <= e.until: // leased for later
		d.Reset = time.Duration(wait)
		return d, denied
	case now < e.deniedUntil:
		d.Reset = time.Duration(e.deniedUntil - now)
		return d, denied
	}
	return d, undecided
}

// inBucket returns the fields that all decisions about a bucket share.
func (r *Rule) inBucket(e *entry) Decision {
	return Decision{Limit: uint32(r.depth / r.interval), until: e.until, Reset: time.Duration(r.interval)} //nolint:gosec // G115: the burst
}

// Refund returns the permits of a decision, unless its window has ended.
func (r *Rule) Refund(now time.Time, key Key, d Decision, cost uint32) {
	s := r.l.table.shardOf(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, found := s.entries.get(key)
	if !found || !d.Allowed || e.until != d.until || r.l.clock.at(now) >= e.until {
		return
	}
	switch {
	case r.kind != bucket:
		e.permits += cost
	case e.spentTo() == d.end: // an earlier interval lies between others spent since, and stays spent
		e.spendTo(d.end - int64(cost)*r.interval)
	}
	s.entries.set(key, e)
}
