package limit

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"
)

// How the store is watched: whether it can be written is tried when nothing else was written for so long, and while it
// can't, so often. A stream that nobody has for so long is looked for, and made if it has gone.
const (
	watchEvery = 2 * time.Second
	watchTick  = 50 * time.Millisecond
	watchGone  = time.Second
)

// opener is a rawStore that must be opened, and opened again if it is lost.
type opener interface {
	open(ctx context.Context) error
	isOpen() bool
	run(ctx context.Context) // until ctx ends; then it isn't open
}

// watch opens the store, and tries from time to time whether it can be asked, until ctx ends. So requests needn't wait
// to see whether it is back.
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
		lost := away > watchGone && errors.Is(cause, errNobody) && now.Sub(probe.opened) > watchGone
		switch reads, _ := s.reads.away(now); {
		case opens && (!raw.isOpen() || lost):
			if raw.open(ctx) == nil {
				probe.opened = now
				probe.write(ctx)
			}
		case away > 0, opens && now.Sub(s.writes.last()) >= watchEvery:
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

// prober asks for a record of its own. One goroutine uses it.
type prober struct {
	s      *store
	key    Key
	rev    uint64
	opened time.Time // when the store was last opened
}

// write tries once whether the store can be written.
func (p *prober) write(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, firstWrite)
	defer cancel()
	rev, err := p.s.put(ctx, p.key, stored{value: []byte("probe"), rev: p.rev}, time.Minute)
	switch {
	case err == nil:
		p.rev = rev
	case errors.Is(err, errConflict), errors.Is(err, errUnsure):
		p.read(ctx)
	}
}

// read tries once whether the store can be read.
func (p *prober) read(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, firstRead)
	defer cancel()
	if v, err := p.s.get(ctx, p.key, true); err == nil {
		p.rev = v.rev
	}
}

// probeKey names the record by which a node tries the store: another one each time that it starts, since the one before
// may be damaged.
func probeKey() (key Key) {
	_, _ = rand.Read(key[:]) // never fails
	return key
}

// Await waits until the store can be asked, or ctx ends.
func (l *Limiter) Await(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !l.Ready() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err() //nolint:wrapcheck // the caller's own
		}
	}
	return nil
}

// Written is how long ago the last write was begun that the store answered; false if there was none yet.
func (l *Limiter) Written() (ago time.Duration, ok bool) {
	last := l.store.writes.last()
	return time.Since(last), !last.IsZero()
}

// readyAway is for how long the store may leave questions without an answer and count as ready all the same: requests
// wait longer than that.
const readyAway = 500 * time.Millisecond

// Ready reports whether the store can be asked: it was written lately, and answers.
func (l *Limiter) Ready() bool { return l.away(time.Now()) == nil }

var (
	errNotOpen    = errors.New("it isn't open yet")
	errNotWritten = errors.New("it hasn't been written yet")
)

// away says why the store can't be asked; nil if it can.
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
	case l.store.writes.last().IsZero():
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

// errAway is ErrAway with its cause.
func (l *Limiter) errAway() error {
	if cause := l.away(time.Now()); cause != nil {
		return fmt.Errorf("%w: %w", ErrAway, cause)
	}
	return ErrAway
}
