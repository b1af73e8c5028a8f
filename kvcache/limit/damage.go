package limit

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// What is wrong with a key's record when the store contradicts what is known of it. Nobody knows then what is left of
// the limit, so that the store is away for that key, and for no other.
var (
	errGhost = errors.New("the store has a record and can't give it") // writes conflict, and reads find nothing
	// since this node has permits by it, or knows that there are none.
	errGone = errors.New("the store has lost the newest record")
)

// How long a key with a damaged record waits until the store is asked again, at first and at most; how many such keys
// are remembered; and how often the log tells of them.
const (
	damageWait = time.Second
	damageMost = 30 * time.Second
	damageKeys = 10_000
	damageTold = time.Minute
)

// damage is the keys whose records are damaged. The zero value is ready.
type damage struct {
	n    atomic.Int64 // of keys
	mu   sync.Mutex   // guards what follows
	keys map[Key]*damaged
	told time.Time
}

type damaged struct {
	// of the record that can't be read; of one that can't even be given, up to where the store had come when that was
	// found
	rev   uint64
	ghost bool // it can't be given
	since time.Time
	until time.Time // when the store is asked again
	wait  time.Duration
}

// holds reports whether a key's record is damaged and isn't to be asked for yet.
func (d *damage) holds(key Key) bool {
	if d.n.Load() == 0 {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	k := d.keys[key]
	return k != nil && time.Now().Before(k.until)
}

// forget is for a key whose record can be read again.
func (d *damage) forget(key Key) {
	if d.n.Load() == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.keys, key)
	d.n.Store(int64(len(d.keys)))
}

// get gives what is known of a key's damaged record; the zero value if there is none.
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

// note remembers a damaged record. It gives what is known of it by now, and reports whether the log is to hear of it.
func (d *damage) note(key Key, found damaged, now time.Time) (k damaged, tell bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := d.keys[key]
	if before == nil || before.rev != found.rev || before.ghost != found.ghost { // another one
		found.since, found.wait = now, damageWait/2
	} else {
		found = *before
	}
	if d.keys == nil {
		d.keys = map[Key]*damaged{}
	}
	if before == nil && len(d.keys) >= damageKeys {
		return found, false
	}
	found.wait = min(2*found.wait, damageMost)
	found.until = now.Add(found.wait)
	d.keys[key] = &found
	d.n.Store(int64(len(d.keys)))
	if tell = now.Sub(d.told) >= damageTold; tell {
		d.told = now
	}
	return found, tell
}

// has reports whether a key's record is damaged.
func (d *damage) has(key Key) bool { return d.get(key) != damaged{} }

// sweep drops keys that nobody has asked for in a long time.
func (d *damage) sweep(now time.Time, keep time.Duration) {
	if d.n.Load() == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for key, k := range d.keys {
		if now.Sub(k.until) > keep {
			delete(d.keys, key)
		}
	}
	d.n.Store(int64(len(d.keys)))
}

// contradicts notes that a key's record of that revision is damaged. It gives nil if that one is known for so long that
// nothing counts any more of what it may have said: then the limit begins anew, with a record in its place.
func (l *Limiter) contradicts(ctx context.Context, r *Rule, key Key, rev uint64, why error) error {
	return l.noteDamage(ctx, r, key, damaged{rev: rev}, why)
}

func (l *Limiter) noteDamage(ctx context.Context, r *Rule, key Key, found damaged, why error) error {
	now := time.Now()
	k, tell := l.damage.note(key, found, now)
	if now.Sub(k.since) > r.longest() {
		return nil
	}
	if tell {
		l.cfg.Log.ErrorContext(ctx,
			"a record of a limit is damaged; its client gets what store_away says until its window ends", "limit",
			r.Name, "key", key.String(), "cause", why)
	}
	return failure{ErrAway, why}
}

// ghosts counts writes of a key that conflicted with a record that isn't there.
type ghosts int

// conflict is for a write that conflicts with a record, where a read has found one of that revision. One that isn't
// there may be under way, since replicas have yet to take it; but once another write is done that was made after the
// conflict, it must be there. The error is that it isn't.
func (g *ghosts) conflict(ctx context.Context, r *Rule, key Key, rev uint64, fresh bool) error {
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
		return r.l.bury(ctx, r, key)
	}
	return nil
}

// bury is for a record that the store has and can't give. Once nothing counts any more of what it may have said it is
// removed, but no record that was written since it was found.
func (l *Limiter) bury(ctx context.Context, r *Rule, key Key) error {
	found := l.damage.get(key)
	if !found.ghost {
		last, err := l.store.last(ctx)
		if err != nil {
			return err
		}
		found = damaged{rev: last, ghost: true}
	}
	if err := l.noteDamage(ctx, r, key, found, errGhost); err != nil {
		return err
	}
	l.damage.forget(key) // if there is another one, it counts from now on
	return l.store.drop(ctx, key, found.rev)
}

// longest is how long anybody may count on what a record says, from when it was written.
func (r *Rule) longest() time.Duration {
	var d int64
	switch r.kind {
	case fixed:
		d = r.window
		if r.calendar != 0 { // days with another clock
			d += int64(2 * time.Hour)
		}
	case sliding:
		d = r.window / spansPerWindow * (spanSlots + 1)
	case bucket:
		d = r.depth + int64(aheadAlone+mostSlack)
	case concurrent:
		d = int64(2 * placeTime)
	}
	return time.Duration(d) + keepMargin
}

// longest is that of all rules.
func (l *Limiter) longest() (d time.Duration) {
	for _, r := range *l.rules.Load() {
		d = max(d, r.longest())
	}
	return d
}

// newer reports whether this node has seen a newer record than the one that the store has, or one that must still be
// there if it has none. Damaged blocks may bring an older one back.
func (e *entry) newer(k kind, v *stored, rec *record, now int64) bool {
	switch {
	case now >= e.until, e.flags&shared != 0 && e.flags&known == 0: // a node's own part has no record
		return false
	case k == bucket: // its parts follow one another
		return v.rev == 0 || rec.last < e.until
	}
	return v.rev < max(e.rev, 1)
}

// remembered is the record of a key as this node knows it, which is alone: nobody else can have changed it. False means
// that it doesn't know all of it.
func (l *Limiter) remembered(r *Rule, e *entry) (record, bool) {
	switch {
	case !l.alone:
		return record{}, false
	case r.kind == fixed && e.flags&known != 0 && l.current(r):
		return r.fromEntry(e), true
	case r.kind == bucket && e.until != 0:
		return record{last: e.until}, true
	}
	return record{}, false
}

// fromEntry is the record of a fixed window as the entry tells it.
func (r *Rule) fromEntry(e *entry) record {
	return record{
		start: e.until - r.window, end: e.until, granted: r.pool() - min(e.left, r.pool()),
		active: uint32(e.active),
	}
}
