package kvcache

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// run follows the log until ctx ends. It creates the stream if needed, reads it, and every half second writes a lease
// record to show that it is up to date. After any failure it starts again and keeps what it knows.
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
	l.endLease()
}

// endLease ends this node's lease, so that purges don't wait for it.
func (l *purgeLog) endLease() {
	l.lease.Store(0)
	l.ready.Store(false)
	if l.cfg.Alone {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	// If it fails, purges wait until the lease ends.
	_, _ = l.write(ctx, &purgeRecord{
		Reach: reachLease, Node: l.cfg.Node, Name: l.cfg.Name, Run: l.processID(),
		End: true,
	})
}

// follow opens the stream, consumes it and keeps the lease until something fails.
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

// openStream opens or creates the stream. If it is another incarnation, all earlier entries are invalid.
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
	if l.ledger.setIncarnation(incarnation) && !l.lossReported.Swap(false) {
		l.reportLoss(ctx, errAnother)
	}
	if incarnation != l.epochs.now().Incarnation {
		l.epochs.reset(incarnation)
		l.mu.Lock()
		l.historyEnd, l.lastNoted = info.State.LastSeq, 0
		l.mu.Unlock()
	}
	return nil
}

// incarnationOf distinguishes a stream from earlier and later ones of the same name.
func incarnationOf(info *jetstream.StreamInfo) uint64 {
	return uint64(info.Created.UnixNano())
}

// recreate is called when the log lacks something that it must have: its disk was damaged, or an older copy was
// restored. Purged entries could come back, and sequences be used twice. So recreate deletes the log; the next
// incarnation makes all entries invalid on every node. If the log has been replaced already, the node only has to
// follow the new one. It returns the error for the caller.
func (l *purgeLog) recreate(ctx context.Context, why error) error {
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
	l.epochs.reset(0)
	l.lossReported.Store(true)
	l.reportLoss(ctx, why)
	if err := l.js.DeleteStream(ctx, "KV_"+l.bucket); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return errors.Join(ErrAway, why, err)
	}
	return errors.Join(ErrAway, why)
}

// reportLoss reports to operators that all cached entries are invalid.
func (l *purgeLog) reportLoss(ctx context.Context, why error) {
	if l.log != nil {
		l.log.ErrorContext(ctx,
			"the log of purges has lost some, so that purged responses could come back: all that is cached is invalid "+
				"now", "cause", why)
	}
	if l.cfg.Lost != nil {
		l.cfg.Lost(why)
	}
}

// keepLease writes this node's lease record periodically. A record becomes a lease when the node receives it: then it
// has applied all purges before it. For a node that is alone the first one suffices, since nobody else writes.
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
		case <-l.renewNow:
			wait.Stop()
		case <-ctx.Done():
			wait.Stop()
			return ctx.Err()
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
			Name: l.cfg.Name, Run: l.processID(),
		})
	if err != nil {
		return err
	}
	watching, cancel := context.WithTimeout(ctx, watchStall)
	defer cancel()
	if l.awaitApplied(watching, sequence) != nil {
		return errStalled
	}
	if err := l.ledger.compare(l.cfg.Alone); err != nil {
		return l.recreate(ctx, err)
	}
	if l.noteSaver != nil {
		signal(l.noteSaver.wake)
	}
	l.lease.Store(int64(begun.Add(leaseTime).Sub(l.base)))
	l.ready.Store(true)
	return nil
}

// restart makes run check at once whether it still receives what is written, and start again if it doesn't.
func (l *purgeLog) restart() {
	select {
	case l.renewNow <- struct{}{}:
	default:
	}
}

// compact replaces the older half of the purges with a floor when there are too many. Entries from before it become
// invalid.
func (l *purgeLog) compact(ctx context.Context) {
	if l.epochs.count() <= maxPurges {
		return
	}
	floor := l.epochs.median()
	if _, err := l.write(ctx,
		&purgeRecord{Reach: reachFloor, Text: strconv.FormatUint(floor, 10), Node: l.cfg.Node}); err != nil {
		return // the next purge retries
	}
	if stream, err := l.js.Stream(ctx, "KV_"+l.bucket); err == nil {
		_ = stream.Purge(ctx, jetstream.WithPurgeSequence(floor)) // if it fails, the next start only reads more
	}
}
