package limit

import (
	"context"
	"errors"
	"time"

	"millrace/node"
)

// Take decides, asking the store and the other nodes if it must, and in a rule that queues waits for the request's
// turn. Errors: ErrAway, if it can't be known; ErrQueueFull; and ctx's. The decision counts in the rule's statistics.
func (r *Rule) Take(ctx context.Context, key Key, cost uint32) (d Decision, err error) {
	if r.queues.on {
		d, err = r.queues.take(ctx, r, key, cost)
	} else {
		d, err = r.once(ctx, key, cost)
	}
	r.count(d, err)
	return d, err
}

// once decides without waiting for a turn.
func (r *Rule) once(ctx context.Context, key Key, cost uint32) (Decision, error) {
	if r.kind == concurrent {
		return r.place(ctx, key, cost)
	}
	return r.take(ctx, key, cost)
}

func (r *Rule) count(d Decision, err error) {
	switch {
	case errors.Is(err, ErrQueueFull):
		r.stats.denied.Add(1)
	case errors.Is(err, ErrAway):
		r.stats.away.Add(1)
	case err != nil: // the client has gone
	case d.Allowed:
		r.stats.allowed.Add(1)
	default:
		r.stats.denied.Add(1)
	}
}

// take spends permits.
func (r *Rule) take(ctx context.Context, key Key, cost uint32) (Decision, error) {
	p := r.patience()
	defer p.stop()
	for {
		now := r.l.clock.now()
		d, v := r.try(now, key, cost)
		if v != unknown {
			return d, nil
		}
		f := r.l.ask(r, key, r.needs(key, cost))
		if f == nil {
			return d, ErrAway
		}
		if err := p.await(ctx, f.done); err != nil {
			return d, err
		}
		if f.err != nil {
			return d, f.err
		}
	}
}

// patience bounds what a request waits for the store in all. Most requests don't, and need no timer.
type patience struct {
	most  time.Duration
	timer *time.Timer
}

// openPatience is that of requests that pass all the same.
const openPatience = 500 * time.Millisecond

func (r *Rule) patience() patience {
	if r.Limit.StoreAway == node.StoreAwayOpen || r.Limit.Shadow {
		return patience{most: openPatience}
	}
	return patience{most: Patience}
}

// await waits for done.
func (p *patience) await(ctx context.Context, done <-chan struct{}) error {
	if p.timer == nil {
		p.timer = time.NewTimer(p.most)
	}
	select {
	case <-done:
		return nil
	case <-p.timer.C:
		return ErrAway
	case <-ctx.Done():
		return ctx.Err() //nolint:wrapcheck // the caller's own
	}
}

func (p *patience) stop() {
	if p.timer != nil {
		p.timer.Stop()
	}
}

// need is what a flight is for.
type need struct {
	permits uint32        // that are waited for
	most    uint32        // of them by one request
	wait    time.Duration // how far in the future they are of use, for requests that queue
}

// needs is what is asked for a request: of a bucket whose requests queue, for those as well that stand in line, as far
// as their turn is near.
func (r *Rule) needs(key Key, cost uint32) need {
	if r.kind != bucket || !r.queues.on {
		return need{permits: cost, most: cost}
	}
	n := r.queues.needs(key, time.Now(), int64(nearTurn)/r.interval)
	n.permits, n.most = max(n.permits, cost), cost
	return n
}

// nearTurn is how soon the turn of a request must be, at least, so that its permit is leased with the first one's.
const nearTurn = 250 * time.Millisecond

// flight is one question to the store, for all requests of a key that wait.
type flight struct {
	done chan struct{} // closed at its end
	need need          // the shard's lock guards it
	err  error         // before done is closed
}

// maxFlights bounds the keys that are asked for at once.
const maxFlights = 16 << 10

// ask joins the flight of a key, or begins one. Nil means that the store isn't asked now.
func (l *Limiter) ask(r *Rule, key Key, n need) *flight {
	s := l.table.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.flights[key]; f != nil {
		f.need = need{f.need.permits + n.permits, max(f.need.most, n.most), max(f.need.wait, n.wait)}
		return f
	}
	if l.gone() || l.damage.holds(key) || l.flights.Load() >= maxFlights {
		return nil
	}
	f := &flight{done: make(chan struct{}), need: n}
	if !l.begin(func() { l.fly(r, key, f) }) {
		return nil
	}
	l.flights.Add(1)
	s.flights[key] = f
	return f
}

// prefetch asks for more before the permits are used up, unless somebody does already.
func (l *Limiter) prefetch(r *Rule, key Key) { l.ask(r, key, need{}) }

// gone reports whether the store has been away for so long that requests don't wait for it any more.
func (l *Limiter) gone() bool { return l.awayFor() >= Patience }

// awayFor is for how long the store hasn't answered, or couldn't be asked since the node has no time yet; 0 if it has.
func (l *Limiter) awayFor() time.Duration {
	now := time.Now()
	if l.clock.epoch.Load() == 0 {
		return now.Sub(l.clock.base)
	}
	writes, _ := l.store.writes.away(now)
	reads, _ := l.store.reads.away(now)
	return max(writes, reads)
}

// flightTime is how long a flight takes at most: longer than a request waits, for those who come while it lasts.
const flightTime = Patience + Patience/3

func (l *Limiter) fly(r *Rule, key Key, f *flight) {
	defer l.flights.Add(-1)
	ctx, cancel := context.WithTimeout(l.ctx, flightTime)
	defer cancel()
	jumps := l.clock.jumps.Load()
	if f.err = l.fill(ctx, r, key, f); f.err != nil {
		l.failures.Add(1)
	}
	s := l.table.of(key)
	s.mu.Lock()
	if l.clock.jumps.Load() != jumps { // what it brought may be of the time before
		s.entries.drop(key)
	}
	delete(s.flights, key)
	s.mu.Unlock()
	close(f.done)
}
