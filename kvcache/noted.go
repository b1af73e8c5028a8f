package kvcache

import (
	"context"
	"sync"
	"time"
)

// noteWithin is how long a purge that nobody waits for may be missing in the note.
const noteWithin = 200 * time.Millisecond

// noted keeps a ledger's note, for many purges at once where many come.
type noted struct {
	notes Notes
	wake  chan struct{} // there is something to note
	now   chan struct{} // somebody waits for it

	mu          sync.Mutex // guards what follows
	incarnation uint64
	sequence    uint64        // up to which the note tells
	failed      error         // of the last try
	tried       chan struct{} // closed and replaced after each try
}

func newNoted(notes Notes) *noted {
	return &noted{notes: notes, wake: make(chan struct{}, 1), now: make(chan struct{}, 1), tried: make(chan struct{})}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it is on already
	}
}

// run keeps the note of the ledger until ctx ends, and then once more.
func (n *noted) run(ctx context.Context, l *ledger) {
	for ctx.Err() == nil {
		select {
		case <-n.wake:
		case <-ctx.Done():
		}
		timer := time.NewTimer(noteWithin)
		select {
		case <-timer.C:
		case <-n.now:
		case <-ctx.Done():
		}
		timer.Stop()
		n.save(l)
	}
}

// save writes the note, unless it tells what is on disk already.
func (n *noted) save(l *ledger) {
	b, incarnation, sequence, err := l.begin()
	if incarnation == 0 {
		return
	}
	known, _ := n.tells(incarnation, sequence)
	known = known && n.err() == nil
	if err == nil && !known {
		err = n.notes.Save(b)
	}
	l.end(incarnation, err == nil)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.failed = err; err == nil {
		n.incarnation, n.sequence = incarnation, sequence
	}
	close(n.tried)
	n.tried = make(chan struct{})
}

// await waits until the note tells of the sequence, which was applied before. When the log is another by then, all that
// it was about is invalid.
func (n *noted) await(ctx context.Context, l *ledger, incarnation, sequence uint64) error {
	for {
		done, tried := n.tells(incarnation, sequence)
		if done || l.of() != incarnation {
			return nil
		}
		signal(n.wake)
		signal(n.now)
		select {
		case <-tried:
		case <-ctx.Done():
			return ctx.Err() //nolint:wrapcheck // the caller says what it was for
		}
		if err := n.err(); err != nil {
			return err
		}
	}
}

// tells gives whether the note tells of the sequence, and a channel that is closed after the next try.
func (n *noted) tells(incarnation, sequence uint64) (yes bool, tried <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.incarnation == incarnation && n.sequence >= sequence, n.tried
}

func (n *noted) err() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.failed
}
