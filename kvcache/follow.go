package kvcache

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// run follows the log until ctx ends: it makes the stream if there is none, reads it, and shows every half a second by
// a record of its own that it is up to date. Whatever breaks, it begins again, without losing what it knows.
func (l *purgeLog) run(ctx context.Context) {
	wait := 50 * time.Millisecond
	warned := time.Time{}
	for ctx.Err() == nil {
		begun := time.Now()
		err := l.follow(ctx)
		if ctx.Err() != nil {
			break
		}
		if time.Since(begun) > 10*time.Second {
			wait = 50 * time.Millisecond
		}
		if l.log != nil && time.Since(warned) > time.Minute && time.Since(l.base) > 15*time.Second {
			warned = time.Now()
			l.log.WarnContext(ctx, "purges can't be followed: cached responses are validated before use until they can",
				"cause", err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		wait = min(2*wait, 2*time.Second)
	}
	l.resign()
}

// resign tells the others not to wait for this node any more.
func (l *purgeLog) resign() {
	l.lease.Store(0)
	l.ready.Store(false)
	if l.cfg.Alone {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	// else they wait for the lease's end
	_, _ = l.write(ctx, &purgeRecord{
		Reach: reachLease, Node: l.cfg.Node, Name: l.cfg.Name, Run: l.process(),
		End: true,
	})
}

// follow opens stream and watch and keeps the lease until something breaks.
func (l *purgeLog) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := l.openStream(ctx); err != nil {
		return err
	}
	consumer, err := l.js.OrderedConsumer(ctx, "KV_"+l.bucket, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: l.epochs.now().Sequence + 1,
		InactiveThreshold: 30 * time.Second,
	})
	if err != nil {
		return fmt.Errorf("watch the purges: %w", err)
	}
	watch, err := consumer.Consume(l.receive)
	if err != nil {
		return fmt.Errorf("watch the purges: %w", err)
	}
	defer watch.Stop()
	return l.keepLease(ctx)
}

// openStream finds or makes the stream. Another incarnation of it makes all entries of the one before invalid.
func (l *purgeLog) openStream(ctx context.Context) error {
	stream, err := OpenStream(ctx, l.cfg.NATS, l.js, jetstream.StreamConfig{
		Name: "KV_" + l.bucket, Description: "Millrace: purges of the cache",
		Subjects: []string{"$KV." + l.bucket + ".>"}, Storage: jetstream.FileStorage,
		Replicas: l.cfg.Replicas, MaxMsgsPerSubject: 1, MaxMsgs: 4 * maxPurges, MaxMsgSize: 16 << 10,
		Discard: jetstream.DiscardNew, MaxAge: purgesKept,
		AllowRollup: true, DenyDelete: true, AllowDirect: true, AllowMsgTTL: true, MaxBytes: -1,
	}, SizeStays)
	if err != nil {
		return fmt.Errorf("open the purges: %w", err)
	}
	info := stream.CachedInfo()
	incarnation := incarnationOf(info)
	if l.ledger.open(incarnation) && !l.told.Swap(false) {
		l.tellLost(ctx, errAnother)
	}
	if incarnation != l.epochs.now().Incarnation {
		l.epochs.forget(incarnation)
		l.mu.Lock()
		l.live, l.noticed = info.State.LastSeq, 0
		l.mu.Unlock()
	}
	return nil
}

// incarnationOf tells one stream of a name from others before and after it.
func incarnationOf(info *jetstream.StreamInfo) uint64 {
	return uint64(info.Created.UnixNano())
}

// lost is called when the log doesn't have what it must have: its disk was damaged, or an older copy was put in its
// place. What was purged could come back, and sequences be given a second time. So the log is made anew: then all that
// was stored before is invalid, on every node. It gives the error for who noticed. If it is another log by now, nothing
// is to be done but to follow that one.
func (l *purgeLog) lost(ctx context.Context, why error) error {
	defer l.restart()
	stream, err := l.js.Stream(ctx, "KV_"+l.bucket)
	if err != nil {
		return errors.Join(ErrAway, why, err)
	}
	if incarnationOf(stream.CachedInfo()) != l.epochs.now().Incarnation {
		return errors.Join(ErrAway, why)
	}
	l.lease.Store(0)
	l.ready.Store(false)
	l.epochs.forget(0)
	l.told.Store(true)
	l.tellLost(ctx, why)
	if err := l.js.DeleteStream(ctx, "KV_"+l.bucket); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return errors.Join(ErrAway, why, err)
	}
	return errors.Join(ErrAway, why)
}

// tellLost lets operators know that all that was cached is invalid.
func (l *purgeLog) tellLost(ctx context.Context, why error) {
	if l.log != nil {
		l.log.ErrorContext(ctx,
			"the log of purges has lost some, so that purged responses could come back: all that is cached is invalid "+
				"now", "cause", why)
	}
	if l.cfg.Lost != nil {
		l.cfg.Lost(why)
	}
}

// keepLease writes this node's record again and again, and takes each for a lease once the watch has brought it: then
// all before it is applied. Alone, the first is enough, since nobody else writes.
func (l *purgeLog) keepLease(ctx context.Context) error {
	for {
		begun := time.Now()
		if err := l.renew(ctx, begun); err != nil {
			return err
		}
		wait := time.NewTimer(max(leaseEvery-time.Since(begun), 0))
		tick := wait.C
		if l.cfg.Alone {
			tick = nil
		}
		select {
		case <-tick:
		case <-l.kick:
			wait.Stop()
		case <-ctx.Done():
			wait.Stop()
			return ctx.Err() //nolint:wrapcheck // run only wants to know that there is one
		}
	}
}

var errStalled = errors.New("the watch of the purges has stalled")

func (l *purgeLog) renew(ctx context.Context, begun time.Time) error {
	if l.epochs.now().Incarnation == 0 { // a purge has found that the log has lost some
		return errLost
	}
	writing, cancel := context.WithTimeout(ctx, writeStall)
	defer cancel()
	sequence, err := l.write(writing,
		&purgeRecord{
			Reach: reachLease, Text: strconv.FormatUint(l.epochs.now().Sequence, 10), Node: l.cfg.Node,
			Name: l.cfg.Name, Run: l.process(),
		})
	if err != nil {
		return err
	}
	watching, cancel := context.WithTimeout(ctx, watchStall)
	defer cancel()
	if l.applied(watching, sequence) != nil {
		return errStalled
	}
	if err := l.ledger.compare(l.cfg.Alone); err != nil {
		return l.lost(ctx, err)
	}
	if l.noted != nil {
		signal(l.noted.wake)
	}
	l.lease.Store(int64(begun.Add(leaseTime).Sub(l.base)))
	l.ready.Store(true)
	return nil
}

// restart lets run show at once whether the watch still brings what is written, and begin again if it doesn't.
func (l *purgeLog) restart() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// compact sums the older half of the purges up when there are too many: entries from before it become invalid.
func (l *purgeLog) compact(ctx context.Context) {
	if l.epochs.count() <= maxPurges {
		return
	}
	floor := l.epochs.middle()
	if _, err := l.write(ctx,
		&purgeRecord{Reach: reachFloor, Text: strconv.FormatUint(floor, 10), Node: l.cfg.Node}); err != nil {
		return // the next purge tries again
	}
	if stream, err := l.js.Stream(ctx, "KV_"+l.bucket); err == nil {
		_ = stream.Purge(ctx, jetstream.WithPurgeSequence(floor)) // what is left is only more to read at the next start
	}
}
