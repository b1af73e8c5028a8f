package limit

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// How often the store must have taken a write, how long it may need for one, and how long it counts as ready after one.
// A stream whose disk is full still answers questions, so only a write shows that it works.
const (
	proveEvery  = 2 * time.Second
	proveWithin = 2 * time.Second
	provedFor   = 5 * time.Second
)

// proof is when the store has taken a write last: never, to begin with.
type proof struct {
	base time.Time    // makes times monotonic
	at   atomic.Int64 // in nanoseconds since base, 0 if there was none
}

func (p *proof) set() { p.at.Store(int64(time.Since(p.base)) + 1) }

// age is how long ago the last write was taken; ok tells whether there was one.
func (p *proof) age() (age time.Duration, ok bool) {
	at := p.at.Load()
	return time.Since(p.base) - time.Duration(at), at != 0
}

func (p *proof) within(d time.Duration) bool {
	age, ok := p.age()
	return ok && age <= d
}

// prove writes a record that nobody reads whenever there was no other write for a while, until ctx ends.
func (s *streamStore) prove(ctx context.Context) {
	tick := time.NewTicker(5 * time.Millisecond) // a node that starts waits for the first
	defer tick.Stop()
	for {
		if s.ready.Load() && !s.proof.within(proveEvery) {
			s.proveOnce(ctx)
			tick.Reset(proveEvery / 10)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// proveOnce writes once. A stream that refuses the write, such as a full one, works: its leader has answered.
func (s *streamStore) proveOnce(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, proveWithin)
	defer cancel()
	msg := &nats.Msg{Subject: "$KV." + s.name + ".alive", Header: nats.Header{"Nats-TTL": []string{"60"}}}
	_, err := s.js.PublishMsg(ctx, msg, jetstream.WithRetryAttempts(0))
	if _, answered := errors.AsType[*jetstream.APIError](err); err == nil || answered {
		s.proof.set()
	}
}

// Proved is how long ago the store has taken a write; false if it never has.
func (l *Limiter) Proved() (age time.Duration, ok bool) {
	s, isStream := l.store.(*streamStore)
	if !isStream {
		return 0, true
	}
	return s.proof.age()
}
