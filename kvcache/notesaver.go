package kvcache

import (
	"context"
	"sync"
	"time"
)

// noteDelay is how long a purge that nobody waits for may be missing in the note.
const noteDelay = 200 * time.Millisecond

// noteSaver saves a ledger's note. One save covers all purges that have come by then.
type noteSaver struct {
	notes Notes
	wake  chan struct{} // has a token if there is something to note
	now   chan struct{} // has a token if a purge waits for the note

	mu          sync.Mutex // guards what follows
	incarnation uint64
	sequence    uint64        // sequence up to which the note covers the log
	lastErr     error         // of the last try
	tried       chan struct{} // closed and replaced after each try
}

func newNoteSaver(notes Notes) *noteSaver {
	return &noteSaver{
		notes: notes, wake: make(chan struct{}, 1), now: make(chan struct{}, 1), tried: make(chan struct{}),
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // the token is there already
	}
}

// run saves the note until ctx ends, and then once more.
func (n *noteSaver) run(ctx context.Context, l *ledger) {
	for ctx.Err() == nil {
		select {
		case <-n.wake:
		case <-ctx.Done():
		}
		timer := time.NewTimer(noteDelay)
		select {
		case <-timer.C:
		case <-n.now:
		case <-ctx.Done():
		}
		timer.Stop()
		n.save(l)
	}
}

// save saves the note, unless the one on disk is the same.
func (n *noteSaver) save(l *ledger) {
	b, incarnation, sequence, err := l.beginNote()
	if incarnation == 0 {
		return
	}
	known, _ := n.covers(incarnation, sequence)
	known = known && n.err() == nil
	if err == nil && !known {
		err = n.notes.Save(b)
	}
	l.endNote(incarnation, err == nil)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.lastErr = err; err == nil {
		n.incarnation, n.sequence = incarnation, sequence
	}
	close(n.tried)
	n.tried = make(chan struct{})
}

// await waits until the note covers the sequence, which has been applied. If the log has been replaced by then, it
// returns at once: all entries that the purge was about are invalid.
func (n *noteSaver) await(ctx context.Context, l *ledger, incarnation, sequence uint64) error {
	for {
		done, tried := n.covers(incarnation, sequence)
		if done || l.currentIncarnation() != incarnation {
			return nil
		}
		signal(n.wake)
		signal(n.now)
		select {
		case <-tried:
		case <-ctx.Done():
			return ctx.Err() // the caller wraps it
		}
		if err := n.err(); err != nil {
			return err
		}
	}
}

// covers reports whether the note covers the sequence, and returns a channel that is closed after the next save.
func (n *noteSaver) covers(incarnation, sequence uint64) (yes bool, tried <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.incarnation == incarnation && n.sequence >= sequence, n.tried
}

func (n *noteSaver) err() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lastErr
}
