package limit

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"
)

const (
	slotLeaseTime   = 15 * time.Second       // how long a lease of slots lasts after it was written
	slotRenewEvery  = 3 * time.Second        // how often leases are renewed
	slotLeaseMargin = 3 * time.Second        // how much earlier than others take it over a node stops using its lease
	slotDenyTime    = 100 * time.Millisecond // how long requests are refused without asking the store again
	slotRetryEvery  = 5 * time.Millisecond   // how often a queued request tries again while this node frees no slot
	slotRenewals    = 64                     // how many leases are renewed concurrently
)

// inflight holds, for one rule that limits requests in flight, what this node has leased of each key. Like permits,
// slots are leased from the key's record in the store; unlike permits, they are returned. If a node doesn't renew its
// lease within slotLeaseTime, the others take its slots over, and requests that it still runs are no longer counted.
type inflight struct {
	// leaseLocks serializes the calls of writeLease for one key. Each channel is a mutex (its buffer holds one token)
	// that can be waited for with a context; keys share them by their first byte.
	leaseLocks [64]chan struct{}

	mu    sync.Mutex // guards what follows
	byKey map[Key]*keySlots
}

// keySlots is what this node has leased of one key.
type keySlots struct {
	leased        uint32        // slots that this node has leased
	usable        uint32        // slots that the other nodes leave; less than leased if they have taken some over
	inUse         uint32        // slots in use by requests; may exceed leased after the limit was lowered
	until         time.Time     // when this node stops using the lease
	lastUsed      time.Time     // when a request last took or left a slot
	deniedUntil   time.Time     // until when requests are refused without asking the store
	reservedUntil time.Time     // until when one slot is kept free for another node that has asked for it
	renewal       chan struct{} // closed when the running renewal ends; nil if none runs
	freed         chan struct{} // receives a token when a slot becomes free; nil until a request queues, never closed
	renewalErr    error         // of the last renewal
}

func newInflight() *inflight {
	f := &inflight{byKey: map[Key]*keySlots{}}
	for i := range f.leaseLocks {
		f.leaseLocks[i] = make(chan struct{}, 1)
	}
	return f
}

// slotLeases is the record of a key: the lease of each node, by the node's id. A node that restarts takes its own lease
// over, since its requests have ended. Two processes with one id count as one node: an id belongs to a data directory.
type slotLeases map[string]slotLease

// slotLease is one node's lease.
type slotLease struct {
	Slots uint32 `json:"n"`
	Until int64  `json:"u"` // Unix milliseconds
}

// takeSlots takes cost slots for a request. It waits for the store if it must, but not for other requests to end. Leave
// returns the slots. The error is ErrAway, possibly joined with its cause.
func (r *Rule) takeSlots(ctx context.Context, key Key, cost uint32) (Decision, error) {
	p := r.patience()
	defer p.stop()
	for {
		d, renewal, err := r.acquire(key, cost)
		if renewal == nil || err != nil {
			return d, err
		}
		if err := p.await(ctx, renewal); err != nil {
			return d, err
		}
	}
}

// acquire takes cost of the slots that this node has leased. If it has too few, acquire returns the channel that is
// closed when the running renewal ends, and starts a renewal if none runs. A nil channel and a nil error mean that the
// request is refused.
func (r *Rule) acquire(key Key, cost uint32) (Decision, <-chan struct{}, error) {
	now := r.l.now()
	r.inflight.mu.Lock()
	defer r.inflight.mu.Unlock()
	d := Decision{Limit: r.max, Reset: time.Second}
	p := r.inflight.byKey[key]
	if p == nil {
		if len(r.inflight.byKey) >= r.l.cfg.Keys { // unlike permits, slots in use can't be forgotten to make room
			return d, nil, ErrAway
		}
		p = &keySlots{}
		r.inflight.byKey[key] = p
	}
	p.lastUsed = now
	switch {
	case now.Before(p.until) && p.inUse+cost <= p.available(now, r.max):
		p.inUse += cost
		d.Allowed, d.Remaining = true, r.max-min(p.inUse, r.max)
		return d, nil, nil
	case now.Before(p.deniedUntil):
		return d, nil, p.renewalErr
	case p.renewal == nil:
		renewal := make(chan struct{})
		if r.l.gone() || r.l.damage.waiting(key) || r.l.flights.Load() >= maxFlights || !r.l.spawn(func() {
			r.leaseMore(key, cost, renewal)
		}) {
			return d, nil, ErrAway
		}
		r.l.flights.Add(1)
		p.renewal = renewal
	}
	return d, p.renewal, nil
}

// available returns how many of the leased slots requests may use. most is the limit, which may have been lowered since
// the slots were leased.
func (p *keySlots) available(now time.Time, most uint32) uint32 {
	n := min(p.leased, p.usable, most)
	if n > 0 && now.Before(p.reservedUntil) {
		n--
	}
	return n
}

// leaseMore leases more slots for a request that needs cost, and closes renewal when it has tried. If none are left, it
// asks the other nodes to return what they don't use, and tries once more.
func (r *Rule) leaseMore(key Key, cost uint32, renewal chan struct{}) {
	defer r.l.flights.Add(-1)
	ctx, cancel := context.WithTimeout(r.l.ctx, flightTime)
	defer cancel()
	got, err := r.writeLease(ctx, key, cost, false)
	if err == nil && !got && r.l.peers.nodes() > 1 {
		r.l.recalls.Add(1)
		if totalPermits(r.l.peers.recall(ctx, recallRequest{
			Op: opGive, Rule: r.id, Key: key.String(), Permits: cost, From: r.l.cfg.Node,
		}, recallTime)) > 0 {
			got, err = r.writeLease(ctx, key, cost, false)
		}
	}
	r.inflight.mu.Lock()
	defer r.inflight.mu.Unlock()
	if p := r.inflight.byKey[key]; p != nil {
		if p.renewal, p.renewalErr = nil, err; !got {
			p.deniedUntil = r.l.now().Add(slotDenyTime)
		}
	}
	close(renewal)
}

// Leave returns the cost slots that an allowed decision has taken. Call it once for each allowed decision of a rule
// that Occupies.
func (r *Rule) Leave(key Key, cost uint32) {
	r.inflight.mu.Lock()
	defer r.inflight.mu.Unlock()
	if p := r.inflight.byKey[key]; p != nil {
		p.inUse -= min(cost, p.inUse)
		p.lastUsed = r.l.now()
		select {
		case p.freed <- struct{}{}:
		default: // nobody waits, or the token is there already
		}
	}
}

// await waits until a slot becomes free on this node, at most for slotRetryEvery, since another node may have freed
// one.
func (f *inflight) await(ctx context.Context, key Key) {
	f.mu.Lock()
	var freed chan struct{}
	if p := f.byKey[key]; p != nil {
		if p.freed == nil {
			p.freed = make(chan struct{}, 1)
		}
		freed = p.freed
	}
	f.mu.Unlock()
	timer := time.NewTimer(slotRetryEvery)
	defer timer.Stop()
	select {
	case <-freed:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Occupies reports whether allowed requests must Leave.
func (r *Rule) Occupies() bool { return r.kind == concurrent }

// writeLease writes this node's lease of a key: the slots in use, more of them, and some to spare, or nothing. got
// reports whether so many more can be used now. With yield, half of the unused slots are left to other nodes. A
// conflicting write of another node makes it read the record and try again until ctx ends.
func (r *Rule) writeLease(ctx context.Context, key Key, more uint32, yield bool) (got bool, err error) {
	if err := r.l.clock.await(ctx); err != nil {
		return false, err
	}
	lock := r.inflight.leaseLocks[int(key[0])%len(r.inflight.leaseLocks)]
	select {
	case lock <- struct{}{}:
		defer func() { <-lock }()
	case <-ctx.Done():
		return false, ErrAway
	}
	var empty emptyConflicts
	for try := 0; ctx.Err() == nil; try++ {
		begun := r.l.now()
		v, err := r.l.store.get(ctx, key, try > 0)
		if err != nil {
			return false, err
		}
		p := r.inflight.snapshot(key)
		rec, err := r.readLeases(ctx, key, &v, &p, begun, try > 0)
		if errors.Is(err, errStale) {
			continue
		} else if err != nil {
			return false, err
		}
		n, usable := r.slotsToLease(rec, p, more, yield, begun)
		if more > 0 && n < p.inUse+more { // a refusal writes nothing: renewSlots renews what is in use
			if r.l.mayLag(try) {
				continue // other nodes may have returned slots since
			}
			return false, nil
		}
		if n > 0 {
			rec[r.l.cfg.Node] = slotLease{n, begun.Add(slotLeaseTime).UnixMilli()}
		} else {
			delete(rec, r.l.cfg.Node)
		}
		b, _ := json.Marshal(rec) // a map of names and numbers can always be encoded
		if !r.inflight.shrink(key, n) {
			continue // requests have taken slots meanwhile
		}
		switch _, err := r.l.write(ctx, key, b, v.rev, 2*slotLeaseTime); {
		case err == nil:
			r.l.writes.Add(1)
			r.l.damage.forget(key)
			return r.inflight.store(key, n, usable, begun.Add(slotLeaseTime-slotLeaseMargin), more), nil
		case !errors.Is(err, errConflict) && !errors.Is(err, errUnsure):
			return false, err
		}
		r.l.conflicts.Add(1)
		backOff(ctx, min(try, maxBackOff))
		if err := empty.note(ctx, r, key, v.rev, try > 0); err != nil {
			return false, err
		}
	}
	return false, ErrAway
}

// readLeases decodes the record of a key, of which this node has leased p. A record that can't be read, or is gone
// although this node has a lease by it, tells nothing of the other nodes' leases: then it returns an error until all of
// them must have ended. The error is errStale if the record should be read again, from the leader (fresh).
func (r *Rule) readLeases(ctx context.Context, key Key, v *stored, p *keySlots, now time.Time,
	fresh bool,
) (slotLeases, error) {
	rec, ok := decodeLeases(v.value, now)
	switch {
	case !ok:
		return rec, r.l.noteDamagedRevision(ctx, r, key, v.rev, errRecord)
	case v.rev > 0 || p.leased == 0 || !now.Before(p.until) || r.l.alone:
		return rec, nil
	case !fresh:
		return rec, errStale
	}
	return rec, r.l.noteDamagedRevision(ctx, r, key, v.rev, errGone)
}

// slotsToLease returns how many slots this node should lease: those in use, more that are asked for, and up to as many
// again to spare, as far as the other nodes leave them. usable is what they leave of the limit.
func (r *Rule) slotsToLease(rec slotLeases, p keySlots, more uint32, yield bool, now time.Time) (n, usable uint32) {
	var others uint64
	for name, h := range rec {
		if name != r.l.cfg.Node {
			others += uint64(h.Slots)
		}
	}
	usable = r.max - uint32(min(others, uint64(r.max)))
	wanted := p.inUse + more
	switch {
	case yield:
		wanted = p.inUse + (p.leased-min(p.inUse, p.leased))/2
	case more > 0, now.Sub(p.lastUsed) < slotRenewEvery:
		wanted = max(wanted, min(p.leased, 2*p.inUse+1), min(wanted+wanted/2, usable/2))
	}
	// Slots in use are leased even if other nodes have taken them over, or the limit was lowered.
	return min(wanted, max(usable, p.inUse)), usable
}

// decodeValidLeases decodes a record. It returns no lease if there is no record, or if it can't be read.
func decodeValidLeases(value []byte, now time.Time) slotLeases {
	rec, _ := decodeLeases(value, now)
	return rec
}

// decodeLeases decodes a record and drops the leases that have ended. A nil value is a record without leases; ok
// reports whether the value can be read.
func decodeLeases(value []byte, now time.Time) (rec slotLeases, ok bool) {
	rec = slotLeases{}
	if value == nil {
		return rec, true
	}
	if json.Unmarshal(value, &rec) != nil || rec == nil {
		return slotLeases{}, false
	}
	for name, h := range rec {
		// The node may have written it while its clock was ahead.
		if h.Until = min(h.Until, now.Add(slotLeaseTime).UnixMilli()); h.Until <= now.UnixMilli() {
			delete(rec, name)
			continue
		}
		rec[name] = h
	}
	return rec, true
}

// snapshot returns a copy of what this node has leased of a key.
func (f *inflight) snapshot(key Key) keySlots {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.byKey[key]; p != nil {
		return *p
	}
	return keySlots{}
}

// shrink stops using the slots above n, before the record returns them to others. It reports false if more than n are
// in use by now.
func (f *inflight) shrink(key Key, n uint32) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.byKey[key]
	if p == nil || p.leased <= n {
		return true
	}
	if p.inUse > n {
		return false
	}
	p.leased = n
	return true
}

// store stores the lease that was written. It reports whether more further slots can be used.
func (f *inflight) store(key Key, n, usable uint32, until time.Time, more uint32) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.byKey[key]
	if p == nil {
		return false
	}
	if n > p.leased {
		p.deniedUntil = time.Time{}
	}
	p.leased, p.usable, p.until, p.reservedUntil = n, usable, until, time.Time{}
	return p.inUse+more <= min(n, usable)
}

// renewSlots renews this node's leases that end soon, and returns the slots that it doesn't need any more.
func (l *Limiter) renewSlots(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, slotRenewEvery)
	defer cancel()
	var running sync.WaitGroup
	calls := make(chan struct{}, slotRenewals)
	for _, r := range *l.rules.Load() {
		if r.kind != concurrent {
			continue
		}
		for _, key := range r.inflight.dueKeys(l.now()) {
			calls <- struct{}{}
			running.Go(func() {
				defer func() { <-calls }()
				_, _ = r.writeLease(ctx, key, 0, false) // if it fails, it is tried again before the lease ends
			})
		}
	}
	running.Wait()
}

// dueKeys returns the keys whose leases end soon, and forgets those without a lease that weren't used lately.
func (f *inflight) dueKeys(now time.Time) []Key {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []Key
	for key, p := range f.byKey {
		switch {
		case p.renewal != nil:
		case p.leased == 0 && p.inUse == 0 && now.Sub(p.lastUsed) > slotRenewEvery:
			delete(f.byKey, key)
		case p.leased > 0 && p.until.Sub(now) < slotLeaseTime-slotLeaseMargin-slotRenewEvery:
			out = append(out, key)
		}
	}
	return out
}

// invalidate ends this node's use of all leases, so that the records are read before the next request is let through or
// refused.
func (f *inflight) invalidate() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.byKey {
		p.until, p.deniedUntil = time.Time{}, time.Time{}
	}
}

// markUnused returns the keys of which this node has leased slots, and marks them as unused, so that writeLease keeps
// no spare ones.
func (f *inflight) markUnused() (keys []Key) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for key, p := range f.byKey {
		if p.leased > 0 {
			p.lastUsed = time.Time{}
			keys = append(keys, key)
		}
	}
	return keys
}

// returnSlots returns unused slots because another node (to) has asked for some, and says how many. If all are in
// use, it reserves the next one that becomes free, provided that the other node has fewer: otherwise this node would
// keep all slots for as long as requests come.
func (r *Rule) returnSlots(key Key, to string) uint32 {
	ctx, cancel := context.WithTimeout(r.l.ctx, recallTime/2)
	defer cancel()
	before := r.inflight.snapshot(key)
	if before.leased > 0 && before.leased <= before.inUse && r.shouldReserve(ctx, key, before.leased, to) {
		before = r.reserveSlot(ctx, key)
	}
	if before.leased <= before.inUse {
		return 0
	}
	if _, err := r.writeLease(ctx, key, 0, true); err != nil {
		return 0
	}
	return before.leased - min(r.inflight.snapshot(key).leased, before.leased)
}

// shouldReserve reports whether another node (to) should get one of the leased slots of this node: if it has at least
// two fewer, or if the limit has fewer slots than there are nodes.
func (r *Rule) shouldReserve(ctx context.Context, key Key, leased uint32, to string) bool {
	if int64(r.max) < int64(r.l.peers.nodes()) {
		return true
	}
	v, err := r.l.store.get(ctx, key, false)
	return err == nil && leased >= decodeValidLeases(v.value, r.l.now())[to].Slots+2
}

// reserveSlot reserves a slot for another node and waits a quarter of recallTime for one to become free. The
// reservation outlasts the wait, since the other node asks again. It returns what this node has then.
func (r *Rule) reserveSlot(ctx context.Context, key Key) keySlots {
	ends := r.l.now().Add(recallTime / 4)
	r.inflight.mu.Lock()
	if p := r.inflight.byKey[key]; p != nil {
		p.reservedUntil = r.l.now().Add(2 * slotDenyTime)
	}
	r.inflight.mu.Unlock()
	for {
		p := r.inflight.snapshot(key)
		if p.inUse < p.leased || !r.l.now().Before(ends) || ctx.Err() != nil {
			return p
		}
		r.inflight.await(ctx, key)
	}
}

// inflightUsage returns the Usage of a key of a rule that limits requests in flight.
func (r *Rule) inflightUsage(ctx context.Context, key Key) (Usage, error) {
	v, err := r.l.store.get(ctx, key, true)
	if err != nil {
		return Usage{}, err
	}
	u := Usage{Limit: r.max}
	var leased uint32
	for _, h := range decodeValidLeases(v.value, r.l.now()) {
		leased += h.Slots
	}
	free := r.unusedSlots(key) + totalPermits(r.l.peers.recall(ctx,
		recallRequest{Op: opCount, Rule: r.id, Key: key.String(), From: r.l.cfg.Node}, recallTime))
	u.Held = min(leased, free)
	u.Spent = leased - u.Held
	return u, nil
}

// unusedSlots returns how many of this node's leased slots of a key aren't in use.
func (r *Rule) unusedSlots(key Key) uint32 {
	p := r.inflight.snapshot(key)
	return p.leased - p.inUse
}
