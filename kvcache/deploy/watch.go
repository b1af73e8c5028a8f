package deploy

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A watch may stall after its server was away, and nobody tells it. So the watcher begins a new one after each
// reconnect, and when it hasn't heard of the bucket's last revision, for which it looks every checkEvery. The
// connection of a leaf lies inside its process and never ends, so a leaf looks more often.
const (
	checkEvery = 30 * time.Second
	checkFar   = time.Second
	farTime    = 2 * time.Second        // bounds a look of a leaf
	retryFirst = 250 * time.Millisecond // from a failed attempt to the next; it doubles
	retryLast  = 5 * time.Second        // up to this
)

// heard is what a watcher passes on: that it begins with the last record of every key, an update, that all updates of
// the bucket as it stands were passed on, or that the bucket can't be followed for a reason.
type heard struct {
	begins      bool
	update      *update
	complete    bool
	incarnation int64  // of the bucket, unless there is an error
	last        uint64 // the bucket's last revision, if it begins
	err         error
}

// watcher passes the bucket's updates to a channel. It is used by one goroutine.
type watcher struct {
	bucket *bucket
	nc     *nats.Conn
	far    bool
	out    chan<- heard // unbuffered: the reader sets the pace
	seen   uint64       // the last revision that was passed on, or is known to be of no interest
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

// look returns the bucket's last revision, and its incarnation.
func (w *watcher) look(ctx context.Context) (last uint64, incarnation int64, err error) {
	if w.far {
		bounded, cancel := context.WithTimeout(ctx, farTime)
		defer cancel()
		ctx = bounded
	}
	return w.bucket.last(ctx)
}

// watch passes on updates until a new watch is needed. complete reports whether the bucket was read once.
func (w *watcher) watch(ctx context.Context, connected <-chan nats.Status) (complete bool, err error) {
	kv, err := w.bucket.open(ctx)
	if err != nil {
		return false, err
	}
	// What is the bucket's last record now may have been dropped from it, so that no watch passes it on.
	last, now, err := w.look(ctx)
	if err != nil {
		return false, err // the caller only logs it
	}
	if now != kv.incarnation {
		w.seen = 0
		return false, errAnother
	}
	w.seen = min(w.seen, last) // it may have been restored from a backup
	// The end of this context ends the watch and its goroutine. Stop would wait for the server, which may be away.
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	updates, err := kv.WatchAll(watching)
	if err != nil {
		return false, err
	}
	w.pass(ctx, heard{begins: true, incarnation: kv.incarnation, last: last})
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
				w.seen = max(w.seen, last)
				w.pass(ctx, heard{complete: true, incarnation: kv.incarnation})
			default:
				w.passEntry(ctx, e, kv.incarnation)
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

// errAnother means that the bucket was deleted and made again.
var errAnother = errors.New("the bucket of sites is another one than before")

func (w *watcher) passEntry(ctx context.Context, e jetstream.KeyValueEntry, incarnation int64) {
	w.seen = e.Revision()
	if u, ok := updateOf(e); ok {
		w.pass(ctx, heard{update: &u, incarnation: incarnation})
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
	last, now, err := w.look(ctx)
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
