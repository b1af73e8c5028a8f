package limit

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"
)

// How long a node's places last after its last word, how often it speaks, and how much earlier it stops to give them
// out than others take them over.
const (
	placeTime   = 15 * time.Second
	placeEvery  = 3 * time.Second
	placeMargin = 3 * time.Second
	placeDenied = 100 * time.Millisecond
	placeRetry  = 5 * time.Millisecond // in line, besides when a place becomes free on this node
	placeCalls  = 64                   // keys whose places are renewed at once
)

// places are those for requests in flight of a rule's keys: leased from the record like permits, but returned. A node
// that isn't heard of for placeTime loses its places; requests that it still runs then aren't counted any more.
type places struct {
	// by key, each with room for one: of what changes a record and what a node holds by it, one ends before the next
	// begins
	settling [64]chan struct{}

	mu    sync.Mutex // guards what follows
	byKey map[Key]*place
}

type place struct {
	held   uint32 // leased from the record
	room   uint32 // of them what the other nodes leave: less, if they have taken over what this one still used
	busy   uint32 // of them in use
	until  time.Time
	used   time.Time // last
	denied time.Time // until when nothing is asked
	owed   time.Time // until when one place isn't used again, since another node has asked for it
	flight chan struct{}
	// has room for one: told when places become free; closed by nobody. Nil until somebody waits in line
	freed chan struct{}
	err   error // of the flight before
}

func newPlaces() *places {
	ps := &places{byKey: map[Key]*place{}}
	for i := range ps.settling {
		ps.settling[i] = make(chan struct{}, 1)
	}
	return ps
}

// holders is the record of a key: what each node has, by its id, and until when in Unix milliseconds. A node that
// starts again takes over what it had, since its requests have ended. Two that run with one id count as one: an id
// belongs to a data directory.
type holders map[string]holding

type holding struct {
	Places uint32 `json:"n"`
	Until  int64  `json:"u"`
}

// place takes places for a request, without waiting for others to leave. Leave gives them back.
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

// sit takes places that the node has. Else it gives the flight that asks for more, or nil if the request is refused.
func (r *Rule) sit(key Key, cost uint32) (Decision, <-chan struct{}, error) {
	now := r.l.now()
	r.places.mu.Lock()
	defer r.places.mu.Unlock()
	d := Decision{Limit: r.max, Reset: time.Second}
	p := r.places.byKey[key]
	if p == nil {
		if len(r.places.byKey) >= r.l.cfg.Keys { // none that is in use may make room
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

// usable is how many of the places requests may have. The limit may be smaller than it was when they were leased.
func (p *place) usable(now time.Time, most uint32) uint32 {
	n := min(p.held, p.room, most)
	if n > 0 && now.Before(p.owed) {
		n--
	}
	return n
}

// moreFor leases places, and asks the other nodes to return theirs if there are none.
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

// Leave gives back what an allowed decision of a limit on requests in flight has taken.
func (r *Rule) Leave(key Key, cost uint32) {
	r.places.mu.Lock()
	defer r.places.mu.Unlock()
	if p := r.places.byKey[key]; p != nil {
		p.busy -= min(cost, p.busy)
		p.used = r.l.now()
		select {
		case p.freed <- struct{}{}:
		default: // nobody waits, or is told already
		}
	}
}

// await waits until a place becomes free on this node, and not for long, since another node may have freed one.
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

// settle makes the record say what this node has and wants: what is in use, more of it, or nothing. It reports whether
// there is room for more now. With yield, half of what isn't in use is left to others.
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
		if more > 0 && n < p.busy+more { // refused requests write nothing: renewPlaces speaks for what is in use
			if try == 0 {
				continue // what a replica says may be old
			}
			return false, nil
		}
		if n > 0 {
			rec[r.l.cfg.Node] = holding{n, begun.Add(placeTime).UnixMilli()}
		} else {
			delete(rec, r.l.cfg.Node)
		}
		b, _ := json.Marshal(rec) // names and numbers
		if !r.places.lower(key, n) {
			continue // others came in meanwhile
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

// holders reads the record of a key, of which this node has p. One that can't be read, or that has gone although this
// node has places by it, says nothing of the other nodes' places, so that nobody gets more until all of them have
// ended.
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

// fits is how many places this node has to have, those in use, what is asked for, and as many again, if others leave so
// much; and what they leave.
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
	// what is in use is true, even if others have taken it over or the limit has become smaller
	return min(wanted, max(room, p.busy)), room
}

// readHolders gives none if there is no record, or if it can't be read.
func readHolders(value []byte, now time.Time) holders {
	rec, _ := decodeHolders(value, now)
	return rec
}

func decodeHolders(value []byte, now time.Time) (rec holders, ok bool) {
	rec = holders{}
	if value == nil {
		return rec, true
	}
	if json.Unmarshal(value, &rec) != nil || rec == nil {
		return holders{}, false
	}
	for name, h := range rec {
		// it may be of a time that was ahead
		if h.Until = min(h.Until, now.Add(placeTime).UnixMilli()); h.Until <= now.UnixMilli() {
			delete(rec, name)
			continue
		}
		rec[name] = h
	}
	return rec, true
}

func (ps *places) snapshot(key Key) place {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if p := ps.byKey[key]; p != nil {
		return *p
	}
	return place{}
}

// lower gives up places above n before the record says so, unless they are in use by now.
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

// hold sets what the record gives. It reports whether there is room for more.
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

// renewPlaces speaks for the places that this node holds, and returns those that it doesn't need.
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
				_, _ = r.settle(ctx, key, 0, false) // tried again before they end
			})
		}
	}
	running.Wait()
}

// due lists the keys whose places end soon, and drops those that hold none.
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

// doubt makes the records be asked before places are used, or refused, again.
func (ps *places) doubt() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, p := range ps.byKey {
		p.until, p.denied = time.Time{}, time.Time{}
	}
}

// release lists the keys that have places, which aren't kept for requests to come.
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

// returnPlaces gives back what isn't in use, because another node needs places. If all are in use, the next place that
// becomes free is kept for a node that has fewer, or else this one would have them for as long as it has requests.
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

// owes reports whether another node should have one of the places that this one has. Of fewer places than nodes nobody
// keeps one.
func (r *Rule) owes(ctx context.Context, key Key, held uint32, to string) bool {
	if int64(r.max) < int64(r.l.peers.nodes()) {
		return true
	}
	v, err := r.l.store.get(ctx, key, false)
	return err == nil && held >= readHolders(v.value, r.l.now())[to].Places+2
}

// owe waits for a place to become free, and not for long: the other node asks again, and until then it isn't used.
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

// occupied is Usage for requests in flight.
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

func (r *Rule) free(key Key) uint32 {
	p := r.places.snapshot(key)
	return p.held - p.busy
}
