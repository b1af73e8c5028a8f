package deploy

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A watch may stall after its server was away, and nobody tells it. So the watcher begins a new one after each
// reconnect, and when it hasn't heard of the bucket's last revision, for which it looks every checkEvery. The connection
// of a leaf lies inside its process and never ends, so a leaf looks more often.
const (
	checkEvery = 30 * time.Second
	checkFar   = time.Second
	farTime    = 2 * time.Second        // bounds a look of a leaf
	retryFirst = 250 * time.Millisecond // from a failed attempt to the next; it doubles
	retryLast  = 5 * time.Second        // up to this
)

// heard is what a watcher passes on: an update, or that all updates of the bucket as it stands were passed on, or that
// the bucket can't be followed for a reason.
type heard struct {
	update      *update
	complete    bool
	incarnation int64
	err         error
}

// watcher passes the bucket's updates to a channel. It is used by one goroutine.
type watcher struct {
	bucket *bucket
	nc     *nats.Conn
	out    chan<- heard // unbuffered: the reader sets the pace
	far    bool
	seen   uint64 // the last revision that was passed on
}

// run passes on updates until ctx ends. Each watch begins with the last record of every key, so a new one repeats what
// was passed on before.
func (w *watcher) run(ctx context.Context) {
	connected := w.nc.StatusChanged(nats.CONNECTED)
	defer w.nc.RemoveStatusListener(connected)
	for wait := retryFirst; ctx.Err() == nil; {
		complete, err := w.watch(ctx, connected)
		if err != nil {
			w.pass(ctx, heard{err: err})
			w.bucket.forget()
		}
		if complete {
			wait = retryFirst
		}
		if err == nil {
			continue
		}
		select {
		case <-time.After(wait):
		case <-connected:
		case <-ctx.Done():
		}
		wait = min(2*wait, w.longestWait())
	}
}

// longestWait returns the longest wait between two attempts.
func (w *watcher) longestWait() time.Duration {
	if w.far {
		return checkFar
	}
	return retryLast
}

// watch passes on updates until a new watch is needed. complete reports whether the bucket was read once.
func (w *watcher) watch(ctx context.Context, connected <-chan nats.Status) (complete bool, err error) {
	kv, err := w.bucket.open(ctx)
	if err != nil {
		return false, err
	}
	updates, err := kv.WatchAll(ctx)
	if err != nil {
		return false, err // the caller only logs it
	}
	defer func() { _ = updates.Stop() }() // fails only on a closed connection
	every := checkEvery
	if w.far {
		every = checkFar
	}
	check := time.NewTicker(every)
	defer check.Stop()
	first := time.NewTimer(bucketTime) // an empty or dead bucket must not be waited for
	defer first.Stop()
	for {
		select {
		case e, ok := <-updates.Updates():
			switch {
			case !ok:
				return complete, errClosed
			case e == nil:
				complete = true
				first.Stop()
				w.pass(ctx, heard{complete: true, incarnation: kv.incarnation})
			default:
				w.passEntry(ctx, e)
			}
			continue
		case <-first.C:
			return false, context.DeadlineExceeded
		case <-connected: // the consumer of the watch may be gone with the server
			return complete, nil
		case <-ctx.Done():
			return complete, nil
		case <-check.C:
		}
		if current, err := w.current(ctx, kv.incarnation); err != nil || !current {
			return complete, err
		}
	}
}

func (w *watcher) passEntry(ctx context.Context, e jetstream.KeyValueEntry) {
	w.seen = e.Revision()
	if u, ok := updateOf(e); ok {
		w.pass(ctx, heard{update: &u})
	}
}

func (w *watcher) pass(ctx context.Context, h heard) {
	select {
	case w.out <- h:
	case <-ctx.Done():
	}
}

// current reports whether the watch has passed on the bucket's last record. It forgets a bucket that is another one.
func (w *watcher) current(ctx context.Context, incarnation int64) (bool, error) {
	if w.far {
		bounded, cancel := context.WithTimeout(ctx, farTime)
		defer cancel()
		ctx = bounded
	}
	last, now, err := w.bucket.last(ctx)
	if err != nil {
		return false, err
	}
	if now != incarnation {
		w.bucket.forget()
		w.seen = 0
		return false, nil
	}
	return last <= w.seen, nil
}
