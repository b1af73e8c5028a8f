package limit

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"
)

// The watch writes a probe when nothing else was written for watchEvery, and every watchTick while the store doesn't
// answer. If no server has had the stream for watchGone, it is opened again, and created if it is gone.
const (
	watchEvery = 2 * time.Second
	watchTick  = 50 * time.Millisecond
	watchGone  = time.Second
)

// opener is a rawStore that must be opened, and opened again when its stream is lost.
type opener interface {
	open(ctx context.Context) error
	isOpen() bool
	run(ctx context.Context) // until ctx ends; closes the store
}

// watch opens the store and probes it until ctx ends, so that requests needn't wait to find out whether the store is
// back.
func (s *store) watch(ctx context.Context) {
	raw, opens := s.raw.(opener)
	if opens {
		stopped := make(chan struct{})
		go func() { defer close(stopped); raw.run(ctx) }()
		defer func() { <-stopped }()
	}
	probe := prober{s: s, key: probeKey()}
	tick := time.NewTicker(watchTick)
	defer tick.Stop()
	for ctx.Err() == nil {
		now := time.Now()
		away, cause := s.writes.away(now)
		lost := away > watchGone && errors.Is(cause, errNoResponder) && now.Sub(probe.opened) > watchGone
		switch reads, _ := s.reads.away(now); {
		case opens && (!raw.isOpen() || lost):
			if raw.open(ctx) == nil {
				probe.opened = now
				probe.write(ctx)
			}
		case away > 0, opens && now.Sub(s.writes.lastAnswered()) >= watchEvery:
			probe.write(ctx)
		case reads > 0:
			probe.read(ctx)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// prober writes and reads a record of its own. It is used by one goroutine.
type prober struct {
	s      *store
	key    Key
	rev    uint64
	opened time.Time // when the store was last opened
}

// write makes one attempt to write to the store.
func (p *prober) write(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, firstWriteTry)
	defer cancel()
	rev, err := p.s.put(ctx, p.key, stored{value: []byte("probe"), rev: p.rev}, time.Minute)
	switch {
	case err == nil:
		p.rev = rev
	case errors.Is(err, errConflict), errors.Is(err, errUnsure):
		p.read(ctx)
	}
}

// read makes one attempt to read from the store.
func (p *prober) read(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, firstReadTry)
	defer cancel()
	if v, err := p.s.get(ctx, p.key, true); err == nil {
		p.rev = v.rev
	}
}

// probeKey returns a random key for the probe's record: the record of an earlier process may be damaged.
func probeKey() (key Key) {
	_, _ = rand.Read(key[:]) // never fails
	return key
}

// Await waits until the store can be reached. It fails with ctx's error.
func (l *Limiter) Await(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !l.Ready() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Written returns how long ago the latest answered write was sent; ok is false if there was none yet.
func (l *Limiter) Written() (ago time.Duration, ok bool) {
	last := l.store.writes.lastAnswered()
	return time.Since(last), !last.IsZero()
}

// readyAway is how long the store may leave requests unanswered and still count as ready. Requests wait longer than
// that.
const readyAway = 500 * time.Millisecond

// Ready reports whether the store can be reached: a write succeeded recently, and requests are answered.
func (l *Limiter) Ready() bool { return l.away(time.Now()) == nil }

var (
	errNotOpen    = errors.New("it isn't open yet")
	errNotWritten = errors.New("it hasn't been written yet")
)

// away returns why the store can't be reached; nil if it can.
func (l *Limiter) away(now time.Time) error {
	raw, ok := l.store.raw.(*streamStore)
	switch {
	case !ok:
		return nil
	case !raw.isOpen():
		if cause := raw.cause.Load(); cause != nil {
			return *cause
		}
		return errNotOpen
	case l.store.writes.lastAnswered().IsZero():
		return errNotWritten
	case l.clock.epoch.Load() == 0:
		return errNoTime
	}
	for _, h := range []*health{&l.store.writes, &l.store.reads} {
		if d, cause := h.away(now); d > readyAway {
			return fmt.Errorf("no answer for %s: %w", d.Round(100*time.Millisecond), cause)
		}
	}
	return nil
}

// errAway returns ErrAway with its cause.
func (l *Limiter) errAway() error {
	if cause := l.away(time.Now()); cause != nil {
		return fmt.Errorf("%w: %w", ErrAway, cause)
	}
	return ErrAway
}
