package limit

import (
	"sync"
	"time"
)

// health tracks how the store has recently answered one kind of request, reads or writes. The zero value is ready to
// use.
type health struct {
	mu              sync.Mutex // guards what follows
	answeredAt      time.Time  // when the latest answered request was sent
	unansweredSince time.Time  // when the first request after it was sent that got no answer; zero if there is none
	cause           error      // why the last one got no answer
	answering       chan struct{}

	refusedAt time.Time // when the latest refused request was sent
	refusal   error
}

// answered notes that a request sent at begun was answered.
func (h *health) answered(begun time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if begun.After(h.answeredAt) {
		h.answeredAt = begun
	}
	if h.unansweredSince.IsZero() || h.unansweredSince.After(h.answeredAt) {
		return
	}
	h.unansweredSince, h.cause = time.Time{}, nil
	close(h.answering)
	h.answering = nil
}

// unanswered notes that a request sent at begun got no answer. It returns a channel that is closed when a later request
// is answered, or nil if a request that was sent later has been answered already.
func (h *health) unanswered(begun time.Time, cause error) <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	if begun.Before(h.answeredAt) { // a request that was sent later was answered
		return nil
	}
	if h.cause = cause; h.unansweredSince.IsZero() {
		h.unansweredSince, h.answering = begun, make(chan struct{})
	}
	return h.answering
}

// refused notes that the store answered a request with an error.
func (h *health) refused(begun time.Time, why error) {
	h.answered(begun)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refusedAt, h.refusal = begun, why
}

// away returns for how long no request has been answered, and why the last one wasn't; 0 if it was.
func (h *health) away(now time.Time) (time.Duration, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.unansweredSince.IsZero() {
		return 0, nil
	}
	return max(now.Sub(h.unansweredSince), 1), h.cause
}

// lastAnswered returns when the latest answered request was sent.
func (h *health) lastAnswered() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.answeredAt
}

// refusedSince returns why a request sent since then was refused; nil if none was.
func (h *health) refusedSince(since time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.refusedAt.Before(since) {
		return nil
	}
	return h.refusal
}
