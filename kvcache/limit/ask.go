package limit

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// stored is a record as the store has it.
type stored struct {
	value []byte // nil if there is none
	rev   uint64 // of the store; 0 if there is none
	mark  uint64 // of the write, by which whoever wrote it knows it again
	wrote int64  // the writer's time, in Unix nanoseconds; 0 if it isn't known
}

// rawStore keeps the records: each call is one try. get gives the zero value for a key that has no record; a fresh one
// is as new as the last acknowledged put. put replaces the record of revision v.rev (0 for none); the errors below say
// what is known when it doesn't, and with any other nobody knows whether the record was, or will be, replaced.
type rawStore interface {
	get(ctx context.Context, key Key, fresh bool) (stored, error)
	put(ctx context.Context, key Key, v stored, keep time.Duration) (rev uint64, err error)
	last(ctx context.Context) (rev uint64, err error) // the newest of all keys
	// removes what there is of a record, if it is of that revision at most; it may be done twice
	drop(ctx context.Context, key Key, upTo uint64) error
}

// What is known of a question that failed, by itself or joined with another error.
var (
	errConflict = errors.New("another node has changed the record")      // it wasn't replaced, and won't be
	errBusy     = errors.New("another write of the record is under way") // likewise
	errNobody   = errors.New("nobody takes the question")                // likewise
	// it answers, and asking again would be of no use.
	errRefused = errors.New("the store has refused it")
	errUnsure  = errors.New("the record may have been replaced, and again since") // and the store answers
)

// failure is an error whose text is its cause's, and of which what is known.
type failure struct{ what, cause error }

func (f failure) Error() string { return f.cause.Error() }

func (f failure) Unwrap() []error { return []error{f.what, f.cause} }

// How long the first try of a question waits for its answer: a read; a write that the stream's replicas can lose; and
// one that they can't. Each further try waits twice as long. What was on its way to a leader that died has no answer,
// and may be put to the next leader long before a request loses its patience.
const (
	firstRead  = 100 * time.Millisecond
	firstWrite = 250 * time.Millisecond
	firstAlone = 600 * time.Millisecond
	// until a question that nobody has taken is put again, unless somebody takes others before.
	nobodyWait = 200 * time.Millisecond
	busyWait   = 5 * time.Millisecond
)

// store asks a rawStore until it has an answer or the context ends, and notes how the store is.
type store struct {
	raw    rawStore
	first  time.Duration // of a write
	reads  health
	writes health
}

// get gives a record. The error is ErrAway, with its cause.
func (s *store) get(ctx context.Context, key Key, fresh bool) (out stored, err error) {
	err = s.tries(ctx, &s.reads, firstRead, func(ctx context.Context) (err error) {
		out, err = s.raw.get(ctx, key, fresh)
		return err
	})
	return out, err
}

// put replaces the record of revision v.rev. A write whose outcome isn't known is put again: it is done once at most,
// since the revision has gone then, and by the mark it is known whose the record is. Errors: errConflict; errUnsure; or
// ErrAway with its cause, and with errNobody if it is certain that nothing was written.
func (s *store) put(ctx context.Context, key Key, v stored, keep time.Duration) (rev uint64, err error) {
	v.mark = rand.Uint64() | 1 //nolint:gosec // G404: it need only be another one
	open := false              // the outcome of a try before isn't known
	err = s.tries(ctx, &s.writes, s.first, func(ctx context.Context) (err error) {
		rev, err = s.raw.put(ctx, key, v, keep)
		switch {
		case err == nil, errors.Is(err, errNobody):
		case errors.Is(err, errConflict) && open:
			rev, err = s.written(ctx, key, &v)
		case errors.Is(err, errBusy) && !open:
			err = errConflict
		case !errors.Is(err, errConflict) && !errors.Is(err, errBusy):
			open = true
		}
		return err
	})
	if errors.Is(err, ErrAway) && !open {
		err = failure{errNobody, err}
	}
	return rev, err
}

// last gives the newest revision of all keys. The error is ErrAway, with its cause.
func (s *store) last(ctx context.Context) (rev uint64, err error) {
	err = s.tries(ctx, &s.reads, firstRead, func(ctx context.Context) (err error) {
		rev, err = s.raw.last(ctx)
		return err
	})
	return rev, err
}

// drop removes a record, whatever it is, of that revision at most. The error is ErrAway, with its cause.
func (s *store) drop(ctx context.Context, key Key, upTo uint64) error {
	return s.tries(ctx, &s.writes, s.first, func(ctx context.Context) error { return s.raw.drop(ctx, key, upTo) })
}

// written finds out whether a write that conflicts is the one that it conflicts with.
func (s *store) written(ctx context.Context, key Key, v *stored) (rev uint64, err error) {
	now, err := s.raw.get(ctx, key, true)
	switch {
	case err != nil:
		return 0, err //nolint:wrapcheck // the caller's own
	case now.mark == v.mark:
		return now.rev, nil
	}
	return 0, errUnsure
}

// tries asks until there is an answer.
func (s *store) tries(ctx context.Context, h *health, wait time.Duration, ask func(context.Context) error) error {
	for ; ; wait *= 2 {
		begun := time.Now()
		try, cancel := context.WithTimeout(ctx, wait)
		err := ask(try)
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
			switch back := h.unanswered(begun, err); {
			case back == nil: // others are answered
				pause(ctx, busyWait)
			case time.Since(begun) < wait:
				await(ctx, back, nobodyWait)
			}
		}
		if ctx.Err() != nil {
			return failure{ErrAway, err}
		}
	}
}

// await waits until done, but not longer than d.
func await(ctx context.Context, done <-chan struct{}, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	case <-ctx.Done():
	}
}
