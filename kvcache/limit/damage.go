package limit

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// What is wrong with a key's record when the store contradicts what the node knows. Nobody knows then what is left of
// the limit, so the store counts as away for that key, and for no other.
var (
	errNotServed = errors.New("the store has a record and can't give it") // writes conflict, reads find nothing
	// This node holds permits by the missing record, or knows that there are none.
	errGone = errors.New("the store has lost the newest record")
)

// damageFirstWait is how long a key with a damaged record waits for the first retry; the wait doubles up to
// damageMaxWait. At most damageKeys such keys are remembered, and the log mentions one every damageLogEvery at most.
const (
	damageFirstWait = time.Second
	damageMaxWait   = 30 * time.Second
	damageKeys      = 10_000
	damageLogEvery  = time.Minute
)

// damage holds the keys whose records are damaged. The zero value is ready to use.
type damage struct {
	n        atomic.Int64 // number of keys
	mu       sync.Mutex   // guards what follows
	keys     map[Key]*damaged
	loggedAt time.Time
}

type damaged struct {
	// Revision of the record that can't be read. If notServed is set, the newest revision of the stream when that was
	// found.
	rev       uint64
	notServed bool // writes conflict with the record, but reads don't return it
	since     time.Time
	retryAt   time.Time // when the store is asked again
	wait      time.Duration
}

// waiting reports whether a key's record is damaged and its next retry isn't due yet.
func (d *damage) waiting(key Key) bool {
	if d.n.Load() == 0 {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	k := d.keys[key]
	return k != nil && time.Now().Before(k.retryAt)
}

// forget removes a key, since its record can be read again.
func (d *damage) forget(key Key) {
	if d.n.Load() == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.keys, key)
	d.n.Store(int64(len(d.keys)))
}

// get returns what is known about a key's damaged record; the zero value if it isn't damaged.
func (d *damage) get(key Key) damaged {
	if d.n.Load() == 0 {
		return damaged{}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if k := d.keys[key]; k != nil {
		return *k
	}
	return damaged{}
}

// note remembers a damaged record. It returns what is known about it now, and reports whether it should be logged.
func (d *damage) note(key Key, found damaged, now time.Time) (k damaged, log bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := d.keys[key]
	if before == nil || before.rev != found.rev || before.notServed != found.notServed { // not the record known so far
		found.since, found.wait = now, damageFirstWait/2
	} else {
		found = *before
	}
	if d.keys == nil {
		d.keys = map[Key]*damaged{}
	}
	if before == nil && len(d.keys) >= damageKeys {
		return found, false
	}
	found.wait = min(2*found.wait, damageMaxWait)
	found.retryAt = now.Add(found.wait)
	d.keys[key] = &found
	d.n.Store(int64(len(d.keys)))
	if log = now.Sub(d.loggedAt) >= damageLogEvery; log {
		d.loggedAt = now
	}
	return found, log
}

// has reports whether a key's record is known to be damaged.
func (d *damage) has(key Key) bool { return d.get(key) != damaged{} }

// sweep drops keys that nobody has asked for within keep after their last retry was due.
func (d *damage) sweep(now time.Time, keep time.Duration) {
	if d.n.Load() == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for key, k := range d.keys {
		if now.Sub(k.retryAt) > keep {
			delete(d.keys, key)
		}
	}
	d.n.Store(int64(len(d.keys)))
}

// noteDamagedRevision notes that a key's record is damaged at that revision. It returns nil if the damage has been
// known for so long that the record can't limit anything any more: then the caller starts the limit anew with a new
// record.
func (l *Limiter) noteDamagedRevision(ctx context.Context, r *Rule, key Key, rev uint64, why error) error {
	return l.noteDamage(ctx, r, key, damaged{rev: rev}, why)
}

func (l *Limiter) noteDamage(ctx context.Context, r *Rule, key Key, found damaged, why error) error {
	now := time.Now()
	k, log := l.damage.note(key, found, now)
	if now.Sub(k.since) > r.longest() {
		return nil
	}
	if log {
		l.cfg.Log.ErrorContext(ctx,
			"a record of a limit is damaged; its client gets what store_away says until its window ends", "limit",
			r.Name, "key", key.String(), "cause", why)
	}
	return failure{ErrAway, why}
}

// emptyConflicts counts writes of a key in a row that conflicted although reads find no record.
type emptyConflicts int

// note is called when a write conflicts after a read returned revision rev. If the read was fresh and found no record,
// the conflicting write may still be in progress: replicas have yet to apply it. So on the second such conflict note
// makes another write and waits for it. If a third one follows, the stream must have the record and not return it:
// then purgeNotServed handles it.
func (g *emptyConflicts) note(ctx context.Context, r *Rule, key Key, rev uint64, fresh bool) error {
	if rev != 0 || !fresh {
		*g = 0
		return nil
	}
	switch *g++; *g {
	case 2:
		_, err := r.l.write(ctx, probeKey(), []byte("barrier"), 0, time.Second)
		return err
	case 3:
		*g = 0
		return r.l.purgeNotServed(ctx, r, key)
	}
	return nil
}

// purgeNotServed handles a record that the store has but doesn't return. Once the record can't limit anything any more,
// purgeNotServed removes it, but no record written after the damage was found.
func (l *Limiter) purgeNotServed(ctx context.Context, r *Rule, key Key) error {
	found := l.damage.get(key)
	if !found.notServed {
		last, err := l.store.last(ctx)
		if err != nil {
			return err
		}
		found = damaged{rev: last, notServed: true}
	}
	if err := l.noteDamage(ctx, r, key, found, errNotServed); err != nil {
		return err
	}
	l.damage.forget(key) // if the next record is damaged too, its time begins now
	return l.store.drop(ctx, key, found.rev)
}

// longest returns for how long a record can limit anything, from when it was written.
func (r *Rule) longest() time.Duration {
	var d int64
	switch r.kind {
	case fixed:
		d = r.window
		if r.calendar != 0 { // with a change of the clock
			d += int64(2 * time.Hour)
		}
	case sliding:
		d = r.window / spansPerWindow * (keptSpans + 1)
	case bucket:
		d = r.depth + int64(aheadAlone+mostSlack)
	case concurrent:
		d = int64(2 * slotLeaseTime)
	}
	return time.Duration(d) + keepMargin
}

// longest returns the longest time of all rules.
func (l *Limiter) longest() (d time.Duration) {
	for _, r := range *l.rules.Load() {
		d = max(d, r.longest())
	}
	return d
}

// sawNewer reports whether this node has seen a newer record than v, or one that must still exist although v is empty.
// Damaged blocks of a stream can bring older records back.
func (e *entry) sawNewer(k kind, v *stored, rec *record, now int64) bool {
	switch {
	case now >= e.until, e.flags&hasShare != 0 && e.flags&recordKnown == 0: // a node's share has no record
		return false
	case k == bucket: // parts of the time line follow one another
		return v.rev == 0 || rec.last < e.until
	}
	return v.rev < max(e.rev, 1)
}

// recordInMemory returns the record of a key from memory. It works only on a node that is alone, since no other node
// can have changed the record. ok is false if the node doesn't know all of it.
func (l *Limiter) recordInMemory(r *Rule, e *entry) (record, bool) {
	switch {
	case !l.alone:
		return record{}, false
	case r.kind == fixed && e.flags&recordKnown != 0 && l.isCurrent(r):
		return r.fromEntry(e), true
	case r.kind == bucket && e.until != 0:
		return record{last: e.until}, true
	}
	return record{}, false
}

// fromEntry returns the record of a fixed window as the entry has it.
func (r *Rule) fromEntry(e *entry) record {
	return record{
		start: e.until - r.window, end: e.until, granted: r.pool() - min(e.left, r.pool()),
		active: uint32(e.active),
	}
}
