package limit

import (
	"context"
	"errors"
	"sync"
	"time"
)

// giveBackTime is how long a stopping node may take to return what it holds. What it doesn't return is lost until its
// windows end, as if the node had died.
const giveBackTime = time.Second

// giveBackCalls is how many keys are returned concurrently.
const giveBackCalls = 256

// giveBack returns the permits and slots of a limiter that is closed already, so that no new requests use them.
func (l *Limiter) giveBack() {
	ctx, cancel := context.WithTimeout(context.Background(), giveBackTime)
	defer cancel()
	for l.flights.Load() > 0 && ctx.Err() == nil { // flights still bring permits
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
		for _, key := range l.table.shards[i].returnableKeys(l.clock.now()) {
			each(func() { l.returnPermits(ctx, key) })
		}
	}
	for _, r := range *l.rules.Load() {
		if r.kind != concurrent {
			continue
		}
		for _, key := range r.inflight.markUnused() {
			each(func() { _, _ = r.writeLease(ctx, key, 0, false) }) // if it fails, the lease expires
		}
	}
	running.Wait()
}

// returnableKeys lists the keys for which the node holds permits from a record. A node's own share isn't in the record.
func (s *shard) returnableKeys(now int64) (keys []Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.entries.cells {
		if c := &s.entries.cells[i]; c.e.returnable(now) {
			keys = append(keys, c.key)
		}
	}
	return keys
}

func (e *entry) returnable(now int64) bool {
	return e.flags&occupied != 0 && e.flags&hasShare == 0 && e.permits > 0 && e.until > now
}

// returnPermits returns the permits of a key to its record. They leave the entry first, so that nobody spends them.
func (l *Limiter) returnPermits(ctx context.Context, key Key) {
	s := l.table.shardOf(key)
	s.mu.Lock()
	e, _ := s.entries.get(key)
	held := e.returnable(l.clock.now())
	s.entries.drop(key)
	s.mu.Unlock()
	for try := 0; held; try++ {
		v, err := l.store.get(ctx, key, true)
		if err != nil || len(v.value) < 2 {
			return
		}
		k := kind(v.value[1])
		rec, err := decodeRecord(v.value, k)
		if err != nil || !rec.putBack(k, &e) {
			return
		}
		_, err = l.write(ctx, key, rec.encode(k), v.rev, max(time.Duration(e.until-l.clock.now()), 0)+keepMargin)
		if !errors.Is(err, errConflict) {
			return // done, or the outcome is unknown
		}
		backOff(ctx, min(try, maxBackOff))
	}
}

// putBack adds the permits of an entry to the record. It reports false if the record is of another window by now.
// Permits of a sliding window aren't returned: they end with their span, which is soon, and can't be told from those of
// earlier leases.
func (r *record) putBack(k kind, e *entry) bool {
	switch {
	case k == fixed && r.end == e.until:
		r.granted -= min(e.permits, r.granted)
		return true
	case k == bucket && r.last == e.until: // no node has leased since
		r.last = min(r.last, e.spentTo())
		return true
	}
	return false
}
