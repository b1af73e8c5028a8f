package limit

import (
	"sync"
	"time"
)

// health is how the store has answered questions of one kind of late. The zero value is ready.
type health struct {
	mu    sync.Mutex // guards what follows
	good  time.Time  // when the last question was put that was answered
	since time.Time  // when the first one was put after it that wasn't; zero if there is none
	cause error      // of the last one that wasn't
	back  chan struct{}

	denied time.Time // when the last question was put that was refused
	why    error
}

// answered notes that a question was, which was put then.
func (h *health) answered(begun time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if begun.After(h.good) {
		h.good = begun
	}
	if h.since.IsZero() || h.since.After(h.good) {
		return
	}
	h.since, h.cause = time.Time{}, nil
	close(h.back)
	h.back = nil
}

// unanswered notes that a question wasn't, and gives a channel that is closed when one is.
func (h *health) unanswered(begun time.Time, cause error) <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	if begun.Before(h.good) { // others that were put later were answered
		return nil
	}
	if h.cause = cause; h.since.IsZero() {
		h.since, h.back = begun, make(chan struct{})
	}
	return h.back
}

// refused notes that the store answered, but with no.
func (h *health) refused(begun time.Time, why error) {
	h.answered(begun)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.denied, h.why = begun, why
}

// away tells for how long no question was answered, and why the last one wasn't; 0 if it was.
func (h *health) away(now time.Time) (time.Duration, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.since.IsZero() {
		return 0, nil
	}
	return max(now.Sub(h.since), 1), h.cause
}

// last is when the last question was put that was answered.
func (h *health) last() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.good
}

// no is why a question was refused that was put since then; nil if none was.
func (h *health) no(since time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.denied.Before(since) {
		return nil
	}
	return h.why
}
