package limit

import (
	"context"
	"errors"
	"time"

	"millrace/node"
)

// Take decides, and asks the store and the other nodes if it must. In a rule that queues it waits for a permit. Errors:
// ErrAway if nobody can tell; ErrQueueFull; and ctx's error. The decision counts in the rule's statistics.
func (r *Rule) Take(ctx context.Context, key Key, cost uint32) (d Decision, err error) {
	if r.queues.on {
		d, err = r.queues.take(ctx, r, key, cost)
	} else {
		d, err = r.takeNow(ctx, key, cost)
	}
	r.count(d, err)
	return d, err
}

// takeNow decides without queueing.
func (r *Rule) takeNow(ctx context.Context, key Key, cost uint32) (Decision, error) {
	if r.kind == concurrent {
		return r.takeSlots(ctx, key, cost)
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

// take spends permits, and leases more if it must.
func (r *Rule) take(ctx context.Context, key Key, cost uint32) (Decision, error) {
	p := r.patience()
	defer p.stop()
	for {
		now := r.l.clock.now()
		d, v := r.try(now, key, cost)
		if v != undecided {
			return d, nil
		}
		f := r.l.joinFlight(r, key, r.needs(key, cost))
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

// patience limits how long a request waits for the store in all. Most requests don't wait, and need no timer.
type patience struct {
	limit time.Duration
	timer *time.Timer
}

// openPatience is the limit for requests that are let through anyway.
const openPatience = 500 * time.Millisecond

func (r *Rule) patience() patience {
	if r.Limit.StoreAway == node.StoreAwayOpen || r.Limit.Shadow {
		return patience{limit: openPatience}
	}
	return patience{limit: Patience}
}

// await waits until done is closed. Errors: ErrAway when the patience is used up; and ctx's error.
func (p *patience) await(ctx context.Context, done <-chan struct{}) error {
	if p.timer == nil {
		p.timer = time.NewTimer(p.limit)
	}
	select {
	case <-done:
		return nil
	case <-p.timer.C:
		return ErrAway
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *patience) stop() {
	if p.timer != nil {
		p.timer.Stop()
	}
}

// need is what a flight leases for.
type need struct {
	permits uint32        // permits that requests are waiting for
	most    uint32        // the largest number that one request needs
	wait    time.Duration // how far in the future the permits are of use, for requests that queue
}

// needs returns the need of a request. In a bucket whose requests queue it includes the queued requests whose turn is
// near.
func (r *Rule) needs(key Key, cost uint32) need {
	if r.kind != bucket || !r.queues.on {
		return need{permits: cost, most: cost}
	}
	n := r.queues.needs(key, time.Now(), int64(nearTurn)/r.interval)
	n.permits, n.most = max(n.permits, cost), cost
	return n
}

// nearTurn is how soon a request's turn must be for its permit to be leased along with the first one's.
const nearTurn = 250 * time.Millisecond

// flight is one running fill of a key, shared by all requests of the key that wait for it.
type flight struct {
	done chan struct{} // closed when the flight ends
	need need          // guarded by the shard's lock
	err  error         // set before done is closed
}

// maxFlights is how many flights and renewals may run at once.
const maxFlights = 16 << 10

// joinFlight joins the flight of a key, or starts one. It returns nil if the store isn't asked now.
func (l *Limiter) joinFlight(r *Rule, key Key, n need) *flight {
	s := l.table.shardOf(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.flights[key]; f != nil {
		f.need = need{f.need.permits + n.permits, max(f.need.most, n.most), max(f.need.wait, n.wait)}
		return f
	}
	if l.gone() || l.damage.waiting(key) || l.flights.Load() >= maxFlights {
		return nil
	}
	f := &flight{done: make(chan struct{}), need: n}
	if !l.spawn(func() { l.runFlight(r, key, f) }) {
		return nil
	}
	l.flights.Add(1)
	s.flights[key] = f
	return f
}

// prefetch leases more before the permits are used up, unless a flight is running.
func (l *Limiter) prefetch(r *Rule, key Key) { l.joinFlight(r, key, need{}) }

// gone reports whether the store has been away for so long that requests don't wait for it any more.
func (l *Limiter) gone() bool { return l.awayFor() >= Patience }

// awayFor returns for how long the store hasn't answered, or hasn't been asked because the node has no time yet; 0 if
// it answers.
func (l *Limiter) awayFor() time.Duration {
	now := time.Now()
	if l.clock.epoch.Load() == 0 {
		return now.Sub(l.clock.base)
	}
	writes, _ := l.store.writes.away(now)
	reads, _ := l.store.reads.away(now)
	return max(writes, reads)
}

// flightTime is how long a flight may take. That is longer than a request waits, for requests that join it later.
const flightTime = Patience + Patience/3

func (l *Limiter) runFlight(r *Rule, key Key, f *flight) {
	defer l.flights.Add(-1)
	ctx, cancel := context.WithTimeout(l.ctx, flightTime)
	defer cancel()
	jumps := l.clock.jumps.Load()
	if f.err = l.fill(ctx, r, key, f); f.err != nil {
		l.failures.Add(1)
	}
	s := l.table.shardOf(key)
	s.mu.Lock()
	if l.clock.jumps.Load() != jumps { // its result may be of the time before the jump
		s.entries.drop(key)
	}
	delete(s.flights, key)
	s.mu.Unlock()
	close(f.done)
}
