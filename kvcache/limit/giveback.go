package limit

import (
	"context"
	"errors"
	"sync"
	"time"
)

// giveBackTime is how long a node that stops returns what it holds. What it doesn't get done is lost until its windows
// end, as if it had died.
const giveBackTime = time.Second

// giveBackCalls is how many keys are returned at once.
const giveBackCalls = 256

// giveBack returns the permits and places of a limiter that is closed already, so that nothing new begins.
func (l *Limiter) giveBack() {
	ctx, cancel := context.WithTimeout(context.Background(), giveBackTime)
	defer cancel()
	for l.flights.Load() > 0 && ctx.Err() == nil { // they bring permits, too
		pause(ctx, time.Millisecond)
	}
	var running sync.WaitGroup
	calls := make(chan struct{}, giveBackCalls)
	each := func(f func()) {
		select {
		case calls <- struct{}{}:
			running.Go(func() { f(); <-calls })
		case <-ctx.Done():
		}
	}
	for i := range l.table.shards {
		for _, key := range l.table.shards[i].holding(l.clock.now()) {
			each(func() { l.returnPermits(ctx, key) })
		}
	}
	for _, r := range *l.rules.Load() {
		if r.kind != concurrent {
			continue
		}
		for _, key := range r.places.release() {
			each(func() { _, _ = r.settle(ctx, key, 0, false) }) // else they end by themselves
		}
	}
	running.Wait()
}

// holding lists the keys that have permits from their record. A node's own part of a limit isn't in the record.
func (s *shard) holding(now int64) (keys []Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.entries.cells {
		if c := &s.entries.cells[i]; c.e.holds(now) {
			keys = append(keys, c.key)
		}
	}
	return keys
}

func (e *entry) holds(now int64) bool {
	return e.flags&taken != 0 && e.flags&shared == 0 && e.permits > 0 && e.until > now
}

// returnPermits puts what a node holds of a key back into the record. It leaves the entry first, so that nothing is
// spent that is returned.
func (l *Limiter) returnPermits(ctx context.Context, key Key) {
	s := l.table.of(key)
	s.mu.Lock()
	e, _ := s.entries.get(key)
	held := e.holds(l.clock.now())
	s.entries.drop(key)
	s.mu.Unlock()
	for try := 0; held; try++ {
		v, err := l.store.get(ctx, key, true)
		if err != nil || len(v.value) < 2 {
			return
		}
		k := kind(v.value[1])
		rec, err := decodeRecord(v.value, k)
		if err != nil || !rec.take(k, &e) {
			return
		}
		_, err = l.write(ctx, key, rec.encode(k), v.rev, max(time.Duration(e.until-l.clock.now()), 0)+keepMargin)
		if !errors.Is(err, errConflict) {
			return // done, or nobody knows
		}
		backOff(ctx, min(try, maxBackOff))
	}
}

// take puts the permits of an entry back. False means that the record is of another window by now. Those of a sliding
// window end with their span, which is soon, and can't be told from others of before.
func (r *record) take(k kind, e *entry) bool {
	switch {
	case k == fixed && r.end == e.until:
		r.granted -= min(e.permits, r.granted)
		return true
	case k == bucket && r.last == e.until: // nobody has leased since
		r.last = min(r.last, e.spentTo())
		return true
	}
	return false
}
