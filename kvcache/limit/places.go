package limit

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"
)

const (
	placeTime   = 15 * time.Second       // how long a lease of places lasts after it was written
	placeEvery  = 3 * time.Second        // how often leases are renewed
	placeMargin = 3 * time.Second        // how much earlier than others take it over a node stops using its lease
	placeDenied = 100 * time.Millisecond // how long requests are refused without asking the store again
	placeRetry  = 5 * time.Millisecond   // how often a queued request tries again while no place is freed on this node
	placeCalls  = 64                     // how many leases are renewed concurrently
)

// places holds, for one rule that limits requests in flight, what this node has leased of each key. Like permits,
// places are leased from the key's record in the store; unlike permits, they are returned. If a node doesn't renew its
// lease within placeTime, the others take its places over, and requests that it still runs are no longer counted.
type places struct {
	// settling serializes the calls of settle for one key. Each channel is a mutex (its buffer holds one token) that
	// can be waited for with a context; keys share them by their first byte.
	settling [64]chan struct{}

	mu    sync.Mutex // guards what follows
	byKey map[Key]*place
}

// place is what this node has leased of one key.
type place struct {
	held   uint32        // places that this node has leased
	room   uint32        // leased places that no other node has taken over; at most the limit
	busy   uint32        // places in use by requests; may exceed held after the limit was lowered
	until  time.Time     // when this node stops using the lease
	used   time.Time     // when a request last took or left a place
	denied time.Time     // until when requests are refused without asking the store
	owed   time.Time     // until when one place is kept free for another node that has asked for it
	flight chan struct{} // closed when the running renewal ends; nil if none runs
	freed  chan struct{} // receives a token when a place becomes free; nil until a request waits in line, never closed
	err    error         // of the last renewal
}

func newPlaces() *places {
	ps := &places{byKey: map[Key]*place{}}
	for i := range ps.settling {
		ps.settling[i] = make(chan struct{}, 1)
	}
	return ps
}

// holders is the record of a key: the lease of each node, by the node's id. A node that restarts takes its own lease
// over, since its requests have ended. Two processes with one id count as one node: an id belongs to a data directory.
type holders map[string]holding

// holding is one node's lease.
type holding struct {
	Places uint32 `json:"n"`
	Until  int64  `json:"u"` // Unix milliseconds
}

// place takes cost places for a request and waits for the store if it must, but not for other requests to end. Leave
// returns the places. The error is ErrAway, possibly joined with its cause.
func (r *Rule) place(ctx context.Context, key Key, cost uint32) (Decision, error) {
	p := r.patience()
	defer p.stop()
	for {
		d, flight, err := r.sit(key, cost)
		if flight == nil || err != nil {
			return d, err
		}
		if err := p.await(ctx, flight); err != nil {
			return d, err
		}
	}
}

// sit takes cost places of those that this node has leased. If it has too few, sit returns the channel that is closed
// when the running renewal ends, and starts one if none runs. A nil channel and a nil error mean that the request is
// refused.
func (r *Rule) sit(key Key, cost uint32) (Decision, <-chan struct{}, error) {
	now := r.l.now()
	r.places.mu.Lock()
	defer r.places.mu.Unlock()
	d := Decision{Limit: r.max, Reset: time.Second}
	p := r.places.byKey[key]
	if p == nil {
		if len(r.places.byKey) >= r.l.cfg.Keys { // unlike permits, places in use can't be forgotten to make room
			return d, nil, ErrAway
		}
		p = &place{}
		r.places.byKey[key] = p
	}
	p.used = now
	switch {
	case now.Before(p.until) && p.busy+cost <= p.usable(now, r.max):
		p.busy += cost
		d.Allowed, d.Remaining = true, r.max-min(p.busy, r.max)
		return d, nil, nil
	case now.Before(p.denied):
		return d, nil, p.err
	case p.flight == nil:
		flight := make(chan struct{})
		if r.l.gone() || r.l.damage.holds(key) || r.l.flights.Load() >= maxFlights || !r.l.begin(func() {
			r.moreFor(key, cost, flight)
		}) {
			return d, nil, ErrAway
		}
		r.l.flights.Add(1)
		p.flight = flight
	}
	return d, p.flight, nil
}

// usable returns how many of the leased places requests may use. most is the limit, which may have been lowered since
// the places were leased.
func (p *place) usable(now time.Time, most uint32) uint32 {
	n := min(p.held, p.room, most)
	if n > 0 && now.Before(p.owed) {
		n--
	}
	return n
}

// moreFor leases more places for a request that needs cost, and closes flight when it has tried. If none are left, it
// asks the other nodes to return what they don't use, and tries once more.
func (r *Rule) moreFor(key Key, cost uint32, flight chan struct{}) {
	defer r.l.flights.Add(-1)
	ctx, cancel := context.WithTimeout(r.l.ctx, flightTime)
	defer cancel()
	got, err := r.settle(ctx, key, cost, false)
	if err == nil && !got && r.l.peers.nodes() > 1 {
		r.l.recalls.Add(1)
		if total(r.l.peers.recall(ctx,
			want{Op: opGive, Rule: r.id, Key: key.String(), Permits: cost, From: r.l.cfg.Node}, recallTime)) > 0 {
			got, err = r.settle(ctx, key, cost, false)
		}
	}
	r.places.mu.Lock()
	defer r.places.mu.Unlock()
	if p := r.places.byKey[key]; p != nil {
		if p.flight, p.err = nil, err; !got {
			p.denied = r.l.now().Add(placeDenied)
		}
	}
	close(flight)
}

// Leave returns the cost places that an allowed decision has taken. Call it once for each allowed decision of a rule
// that Occupies.
func (r *Rule) Leave(key Key, cost uint32) {
	r.places.mu.Lock()
	defer r.places.mu.Unlock()
	if p := r.places.byKey[key]; p != nil {
		p.busy -= min(cost, p.busy)
		p.used = r.l.now()
		select {
		case p.freed <- struct{}{}:
		default: // nobody waits, or the token is there already
		}
	}
}

// await waits until a place becomes free on this node, at most for placeRetry, since another node may have freed one.
func (ps *places) await(ctx context.Context, key Key) {
	ps.mu.Lock()
	var freed chan struct{}
	if p := ps.byKey[key]; p != nil {
		if p.freed == nil {
			p.freed = make(chan struct{}, 1)
		}
		freed = p.freed
	}
	ps.mu.Unlock()
	timer := time.NewTimer(placeRetry)
	defer timer.Stop()
	select {
	case <-freed:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Occupies reports whether allowed requests must Leave.
func (r *Rule) Occupies() bool { return r.kind == concurrent }

// settle writes this node's lease of a key: the places in use, more of them, and some to spare, or nothing. got reports
// whether so many more can be used now. With yield, half of the unused places are left to other nodes. A conflicting
// write of another node makes it read the record and try again until ctx ends.
func (r *Rule) settle(ctx context.Context, key Key, more uint32, yield bool) (got bool, err error) {
	if err := r.l.clock.await(ctx); err != nil {
		return false, err
	}
	turn := r.places.settling[int(key[0])%len(r.places.settling)]
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		return false, ErrAway
	}
	var conflicts ghosts
	for try := 0; ctx.Err() == nil; try++ {
		begun := r.l.now()
		v, err := r.l.store.get(ctx, key, try > 0)
		if err != nil {
			return false, err
		}
		p := r.places.snapshot(key)
		rec, err := r.holders(ctx, key, &v, &p, begun, try > 0)
		if errors.Is(err, errStale) {
			continue
		} else if err != nil {
			return false, err
		}
		n, room := r.fits(rec, p, more, yield, begun)
		if more > 0 && n < p.busy+more { // a refusal writes nothing: renewPlaces renews what is in use
			if r.l.lags(try) {
				continue // others may have left since
			}
			return false, nil
		}
		if n > 0 {
			rec[r.l.cfg.Node] = holding{n, begun.Add(placeTime).UnixMilli()}
		} else {
			delete(rec, r.l.cfg.Node)
		}
		b, _ := json.Marshal(rec) // names and numbers always can be
		if !r.places.lower(key, n) {
			continue // requests have taken places meanwhile
		}
		switch _, err := r.l.write(ctx, key, b, v.rev, 2*placeTime); {
		case err == nil:
			r.l.writes.Add(1)
			r.l.damage.forget(key)
			return r.places.hold(key, n, room, begun.Add(placeTime-placeMargin), more), nil
		case !errors.Is(err, errConflict) && !errors.Is(err, errUnsure):
			return false, err
		}
		r.l.conflicts.Add(1)
		backOff(ctx, min(try, maxBackOff))
		if err := conflicts.conflict(ctx, r, key, v.rev, try > 0); err != nil {
			return false, err
		}
	}
	return false, ErrAway
}

// holders decodes the record of a key, of which this node has leased p. A record that can't be read, or is gone
// although this node has a lease by it, tells nothing of the other nodes' leases: then it returns an error until all of
// them must have ended. The error is errStale if the record should be read again, from the leader (fresh).
func (r *Rule) holders(ctx context.Context, key Key, v *stored, p *place, now time.Time, fresh bool) (holders, error) {
	rec, ok := decodeHolders(v.value, now)
	switch {
	case !ok:
		return rec, r.l.contradicts(ctx, r, key, v.rev, errRecord)
	case v.rev > 0 || p.held == 0 || !now.Before(p.until) || r.l.alone:
		return rec, nil
	case !fresh:
		return rec, errStale
	}
	return rec, r.l.contradicts(ctx, r, key, v.rev, errGone)
}

// fits returns how many places this node should lease: those in use, more that are asked for, and up to as many again
// to spare, as far as the other nodes leave them. room is what they leave of the limit.
func (r *Rule) fits(rec holders, p place, more uint32, yield bool, now time.Time) (n, room uint32) {
	var others uint64
	for name, h := range rec {
		if name != r.l.cfg.Node {
			others += uint64(h.Places)
		}
	}
	room = r.max - uint32(min(others, uint64(r.max)))
	wanted := p.busy + more
	switch {
	case yield:
		wanted = p.busy + (p.held-min(p.busy, p.held))/2
	case more > 0, now.Sub(p.used) < placeEvery:
		wanted = max(wanted, min(p.held, 2*p.busy+1), min(wanted+wanted/2, room/2))
	}
	// Places in use are leased even if others have taken them over, or the limit was lowered.
	return min(wanted, max(room, p.busy)), room
}

// readHolders decodes a record. It returns no lease if there is no record, or if it can't be read.
func readHolders(value []byte, now time.Time) holders {
	rec, _ := decodeHolders(value, now)
	return rec
}

// decodeHolders decodes a record and drops the leases that have ended. A nil value is a record without leases; ok
// reports whether the value can be read.
func decodeHolders(value []byte, now time.Time) (rec holders, ok bool) {
	rec = holders{}
	if value == nil {
		return rec, true
	}
	if json.Unmarshal(value, &rec) != nil || rec == nil {
		return holders{}, false
	}
	for name, h := range rec {
		// The node may have written it while its clock was ahead.
		if h.Until = min(h.Until, now.Add(placeTime).UnixMilli()); h.Until <= now.UnixMilli() {
			delete(rec, name)
			continue
		}
		rec[name] = h
	}
	return rec, true
}

// snapshot returns a copy of what this node has leased of a key.
func (ps *places) snapshot(key Key) place {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if p := ps.byKey[key]; p != nil {
		return *p
	}
	return place{}
}

// lower stops using the places above n, before the record returns them to others. It reports false if more than n are
// in use by now.
func (ps *places) lower(key Key, n uint32) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p := ps.byKey[key]
	if p == nil || p.held <= n {
		return true
	}
	if p.busy > n {
		return false
	}
	p.held = n
	return true
}

// hold stores the lease that was written. It reports whether more further places can be used.
func (ps *places) hold(key Key, n, room uint32, until time.Time, more uint32) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p := ps.byKey[key]
	if p == nil {
		return false
	}
	if n > p.held {
		p.denied = time.Time{}
	}
	p.held, p.room, p.until, p.owed = n, room, until, time.Time{}
	return p.busy+more <= min(n, room)
}

// renewPlaces renews this node's leases that end soon, and returns the places that it doesn't need any more.
func (l *Limiter) renewPlaces(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, placeEvery)
	defer cancel()
	var running sync.WaitGroup
	calls := make(chan struct{}, placeCalls)
	for _, r := range *l.rules.Load() {
		if r.kind != concurrent {
			continue
		}
		for _, key := range r.places.due(l.now()) {
			calls <- struct{}{}
			running.Go(func() {
				defer func() { <-calls }()
				_, _ = r.settle(ctx, key, 0, false) // if it fails, it is tried again before the lease ends
			})
		}
	}
	running.Wait()
}

// due returns the keys whose leases end soon, and forgets those without a lease that weren't used lately.
func (ps *places) due(now time.Time) []Key {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	var out []Key
	for key, p := range ps.byKey {
		switch {
		case p.flight != nil:
		case p.held == 0 && p.busy == 0 && now.Sub(p.used) > placeEvery:
			delete(ps.byKey, key)
		case p.held > 0 && p.until.Sub(now) < placeTime-placeMargin-placeEvery:
			out = append(out, key)
		}
	}
	return out
}

// doubt ends this node's use of all leases, so that the records are read before the next request is let pass or
// refused.
func (ps *places) doubt() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, p := range ps.byKey {
		p.until, p.denied = time.Time{}, time.Time{}
	}
}

// release returns the keys of which this node has leased places, and marks them as unused, so that settle keeps none to
// spare.
func (ps *places) release() (keys []Key) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for key, p := range ps.byKey {
		if p.held > 0 {
			p.used = time.Time{}
			keys = append(keys, key)
		}
	}
	return keys
}

// returnPlaces returns unused places because another node (to) has asked for some, and says how many. If all are in
// use, it reserves the next one that becomes free, provided that the other node has fewer: otherwise this node would
// keep all places for as long as requests come.
func (r *Rule) returnPlaces(key Key, to string) uint32 {
	ctx, cancel := context.WithTimeout(r.l.ctx, recallTime/2)
	defer cancel()
	before := r.places.snapshot(key)
	if before.held > 0 && before.held <= before.busy && r.owes(ctx, key, before.held, to) {
		before = r.owe(ctx, key)
	}
	if before.held <= before.busy {
		return 0
	}
	if _, err := r.settle(ctx, key, 0, true); err != nil {
		return 0
	}
	return before.held - min(r.places.snapshot(key).held, before.held)
}

// owes reports whether another node (to) should get one of the held places of this node: if it has at least two fewer,
// or if the limit has fewer places than there are nodes.
func (r *Rule) owes(ctx context.Context, key Key, held uint32, to string) bool {
	if int64(r.max) < int64(r.l.peers.nodes()) {
		return true
	}
	v, err := r.l.store.get(ctx, key, false)
	return err == nil && held >= readHolders(v.value, r.l.now())[to].Places+2
}

// owe reserves a place for another node and waits a quarter of recallTime for one to become free. The reservation
// outlasts the wait, since the other node asks again. It returns what this node has then.
func (r *Rule) owe(ctx context.Context, key Key) place {
	ends := r.l.now().Add(recallTime / 4)
	r.places.mu.Lock()
	if p := r.places.byKey[key]; p != nil {
		p.owed = r.l.now().Add(2 * placeDenied)
	}
	r.places.mu.Unlock()
	for {
		p := r.places.snapshot(key)
		if p.busy < p.held || !r.l.now().Before(ends) || ctx.Err() != nil {
			return p
		}
		r.places.await(ctx, key)
	}
}

// occupied returns the Usage of a key of a rule that limits requests in flight.
func (r *Rule) occupied(ctx context.Context, key Key) (Usage, error) {
	v, err := r.l.store.get(ctx, key, true)
	if err != nil {
		return Usage{}, err
	}
	u := Usage{Limit: r.max}
	var held uint32
	for _, h := range readHolders(v.value, r.l.now()) {
		held += h.Places
	}
	free := r.free(key) + total(r.l.peers.recall(ctx,
		want{Op: opCount, Rule: r.id, Key: key.String(), From: r.l.cfg.Node}, recallTime))
	u.Held = min(held, free)
	u.Spent = held - u.Held
	return u, nil
}

// free returns how many of this node's leased places of a key aren't in use.
func (r *Rule) free(key Key) uint32 {
	p := r.places.snapshot(key)
	return p.held - p.busy
}
