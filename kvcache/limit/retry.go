package limit

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// stored is a record as the store returns it.
type stored struct {
	value     []byte // nil if there is none
	rev       uint64 // store revision; 0 if there is none
	writeID   uint64 // unique to the write that stored it, so that the writer recognizes its own record
	writtenAt int64  // the writer's time, in Unix nanoseconds; 0 if it isn't known
}

// rawStore keeps the records. Each call makes one attempt. get returns the zero value for a key without a record; a
// fresh read is as new as the last acknowledged put. put replaces the record of revision v.rev (0: there is none). If a
// call fails, the errors below say what is known about the outcome. After any other error the record may have been
// replaced, or may still be.
type rawStore interface {
	get(ctx context.Context, key Key, fresh bool) (stored, error)
	put(ctx context.Context, key Key, v stored, keep time.Duration) (rev uint64, err error)
	last(ctx context.Context) (rev uint64, err error) // the newest revision of all keys
	// drop removes the record, even one that can't be read, if its revision is at most upTo. It may run twice.
	drop(ctx context.Context, key Key, upTo uint64) error
}

// What is known about a request to the store that failed. Each occurs alone or joined with another error.
var (
	errConflict    = errors.New("another node has changed the record")      // the record wasn't replaced, and won't be
	errBusy        = errors.New("another write of the record is under way") // the same
	errNoResponder = errors.New("nobody takes the question")                // the same
	// The store answers; a retry would fail again.
	errRefused = errors.New("the store has refused it")
	errUnsure  = errors.New("the record may have been replaced, and again since") // the store answers
)

// failure has the text of its cause; errors.Is finds the cause and what is known about the outcome.
type failure struct{ known, cause error }

func (f failure) Error() string { return f.cause.Error() }

func (f failure) Unwrap() []error { return []error{f.known, f.cause} }

// How long the first attempt of a request waits for the reply: a read; a write of a replicated stream, which the
// replicas may lose; and a write of an unreplicated one, which no replica can lose. Each further attempt waits twice as
// long. A request to a leader that died gets no reply, so the retry must reach the next leader well before the waiting
// HTTP request gives up.
const (
	firstReadTry       = 100 * time.Millisecond
	firstWriteTry      = 250 * time.Millisecond
	firstWriteTryAlone = 600 * time.Millisecond
	// Wait after errNoResponder, unless the store answers another request earlier.
	noResponderWait = 200 * time.Millisecond
	busyWait        = 5 * time.Millisecond
)

// store retries the calls of a rawStore until it answers or the context ends, and tracks the store's health.
type store struct {
	raw        rawStore
	firstWrite time.Duration // how long the first attempt of a write waits
	reads      health
	writes     health
}

// get returns a record. The error is ErrAway joined with its cause.
func (s *store) get(ctx context.Context, key Key, fresh bool) (out stored, err error) {
	err = s.retry(ctx, &s.reads, firstReadTry, func(ctx context.Context) (err error) {
		out, err = s.raw.get(ctx, key, fresh)
		return err
	})
	return out, err
}

// put replaces the record of revision v.rev. It repeats a write whose outcome is unknown. The write happens at most
// once: after it the revision is gone, and the write ID shows whose the record is. Errors: errConflict; errUnsure; or
// ErrAway with its cause, and with errNoResponder if nothing was written for certain.
func (s *store) put(ctx context.Context, key Key, v stored, keep time.Duration) (rev uint64, err error) {
	v.writeID = rand.Uint64() | 1 //nolint:gosec // G404: it must only be unique
	unknown := false              // an earlier attempt may have been written
	err = s.retry(ctx, &s.writes, s.firstWrite, func(ctx context.Context) (err error) {
		rev, err = s.raw.put(ctx, key, v, keep)
		switch {
		case err == nil, errors.Is(err, errNoResponder):
		case errors.Is(err, errConflict) && unknown:
			rev, err = s.findWrite(ctx, key, &v)
		case errors.Is(err, errBusy) && !unknown:
			err = errConflict
		case !errors.Is(err, errConflict) && !errors.Is(err, errBusy):
			unknown = true
		}
		return err
	})
	if errors.Is(err, ErrAway) && !unknown {
		err = failure{errNoResponder, err}
	}
	return rev, err
}

// last returns the newest revision of all keys. The error is ErrAway joined with its cause.
func (s *store) last(ctx context.Context) (rev uint64, err error) {
	err = s.retry(ctx, &s.reads, firstReadTry, func(ctx context.Context) (err error) {
		rev, err = s.raw.last(ctx)
		return err
	})
	return rev, err
}

// drop removes the record of a key if its revision is at most upTo. The error is ErrAway joined with its cause.
func (s *store) drop(ctx context.Context, key Key, upTo uint64) error {
	return s.retry(ctx, &s.writes, s.firstWrite, func(ctx context.Context) error { return s.raw.drop(ctx, key, upTo) })
}

// findWrite is called when a repeated write conflicts. If an earlier attempt of the same write has stored the record,
// findWrite returns its revision; otherwise the error is errUnsure.
func (s *store) findWrite(ctx context.Context, key Key, v *stored) (rev uint64, err error) {
	now, err := s.raw.get(ctx, key, true)
	switch {
	case err != nil:
		return 0, err
	case now.writeID == v.writeID:
		return now.rev, nil
	}
	return 0, errUnsure
}

// retry calls try until the store answers or ctx ends. timeout is that of the first attempt; it doubles each time.
func (s *store) retry(ctx context.Context, h *health, timeout time.Duration, try func(context.Context) error) error {
	for ; ; timeout *= 2 {
		begun := time.Now()
		tryCtx, cancel := context.WithTimeout(ctx, timeout)
		err := try(tryCtx)
		cancel()
		switch {
		case err == nil, errors.Is(err, errConflict), errors.Is(err, errUnsure):
			h.answered(begun)
			return err
		case errors.Is(err, errRefused):
			h.refused(begun, err)
			return failure{ErrAway, err}
		case errors.Is(err, errBusy):
			h.answered(begun)
			pause(ctx, busyWait)
		default:
			switch answering := h.unanswered(begun, err); {
			case answering == nil: // the store answers other requests
				pause(ctx, busyWait)
			case time.Since(begun) < timeout:
				awaitOr(ctx, answering, noResponderWait)
			}
		}
		if ctx.Err() != nil {
			return failure{ErrAway, err}
		}
	}
}

// awaitOr waits until done is closed or ctx ends, at most for d.
func awaitOr(ctx context.Context, done <-chan struct{}, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	case <-ctx.Done():
	}
}
