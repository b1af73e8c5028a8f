package kvcache

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// headerNode has the node that wrote a value or a heartbeat, which has no value.
const headerNode = "Millrace-Node"

// A node trusts its memory for believedFor after a heartbeat has shown that it receives all changes. It writes a
// heartbeat every heartbeatEvery.
const (
	believedFor    = 2 * time.Second
	heartbeatEvery = 500 * time.Millisecond
)

// changes tracks the changes of the values' bucket. It knows whether memory is as new as the bucket, and which values
// have changed recently, so that a slow read can't bring an old one back. It is safe for concurrent use.
type changes struct {
	until atomic.Int64 // until when memory is trusted, in Unix nanoseconds

	mu        sync.Mutex           // guards what follows
	recent    [2]map[string]uint64 // sequence of the last change by subject, in two generations
	heartbeat uint64               // sequence of the last heartbeat that was received
	beat      chan struct{}        // closed and replaced when heartbeat grows
}

// maxRecent limits the changes of a generation: more than happen while one read is answered.
const maxRecent = 1 << 15

// current reports whether all changes but those of the last moments are known.
func (h *changes) current() bool { return time.Now().UnixNano() < h.until.Load() }

// noteChange notes that a subject has changed. It reports false if a later change is known.
func (h *changes) noteChange(subject string, sequence uint64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.last(subject) > sequence {
		return false
	}
	if len(h.recent[0]) >= maxRecent || h.recent[0] == nil {
		h.recent[1], h.recent[0] = h.recent[0], map[string]uint64{}
	}
	h.recent[0][subject] = sequence
	return true
}

// last returns the last known change of a subject; 0 if there was none recently. The caller holds mu.
func (h *changes) last(subject string) uint64 { return max(h.recent[0][subject], h.recent[1][subject]) }

// isNewest reports whether no change later than the sequence is known.
func (h *changes) isNewest(subject string, sequence uint64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last(subject) <= sequence
}

// noteHeartbeat notes a received heartbeat of this node.
func (h *changes) noteHeartbeat(sequence uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.heartbeat = max(h.heartbeat, sequence)
	if h.beat != nil {
		close(h.beat)
	}
	h.beat = make(chan struct{})
}

// awaitHeartbeat waits until the heartbeat of that sequence was received.
func (h *changes) awaitHeartbeat(ctx context.Context, sequence uint64) bool {
	for {
		h.mu.Lock()
		if h.beat == nil {
			h.beat = make(chan struct{})
		}
		own, came := h.heartbeat, h.beat
		h.mu.Unlock()
		if own >= sequence {
			return true
		}
		select {
		case <-came:
		case <-ctx.Done():
			return false
		}
	}
}

// openOnce opens the bucket at the first use, and starts to follow its changes.
func (v *Values) openOnce(ctx context.Context) error {
	v.open.Lock()
	defer v.open.Unlock()
	if v.ready {
		return nil
	}
	if _, err := v.openStream(ctx); err != nil {
		return err
	}
	if v.c.cfg.Alone {
		v.changes.until.Store(1<<63 - 1)
	} else if !v.c.spawn(func() { v.follow(v.c.ctx) }) {
		return ErrAway
	}
	v.ready = true
	return nil
}

func (v *Values) openStream(ctx context.Context) (jetstream.Stream, error) {
	stream, err := OpenStream(ctx, v.c.cfg.NATS, v.c.bucket.js, v.c.bucket.config(v.bucket,
		"Millrace: values of the application"), SizeFollows)
	if err != nil {
		return nil, errors.Join(ErrAway, err)
	}
	return stream, nil
}

// follow follows the changes until ctx ends, and starts again when it doesn't receive its own heartbeats.
func (v *Values) follow(ctx context.Context) {
	for ctx.Err() == nil {
		_ = v.watch(ctx) // after any failure memory isn't trusted until the watch runs again
		v.changes.until.Store(0)
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func (v *Values) watch(ctx context.Context) error {
	stream, err := v.openStream(ctx)
	if err != nil {
		return err
	}
	consumer, err := stream.OrderedConsumer(ctx,
		jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverNewPolicy, HeadersOnly: true})
	if err != nil {
		return err // follow starts again
	}
	watch, err := consumer.Consume(v.changed)
	if err != nil {
		return err
	}
	defer watch.Stop()
	v.c.memory.clear(SpaceValue) // changes until now are unknown
	tick := time.NewTicker(heartbeatEvery)
	defer tick.Stop()
	for {
		begun := time.Now()
		if err := v.writeHeartbeat(ctx); err != nil {
			return err
		}
		v.changes.until.Store(begun.Add(believedFor).UnixNano())
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// writeHeartbeat writes a heartbeat and waits until this node receives it, behind all changes before it.
func (v *Values) writeHeartbeat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, believedFor/2)
	defer cancel()
	msg := &nats.Msg{
		Subject: "$KV." + v.bucket + ".follows." + v.c.cfg.Node,
		Header:  nats.Header{headerNode: {v.c.cfg.Node}},
	}
	ack, err := v.c.bucket.js.PublishMsg(ctx, msg, jetstream.WithRetryAttempts(0))
	if err != nil {
		return err // follow starts again
	}
	if !v.changes.awaitHeartbeat(ctx, ack.Sequence) {
		return errStalled
	}
	return nil
}

// changed handles a change. What this node has written is in its memory already.
func (v *Values) changed(msg jetstream.Msg) {
	meta, err := msg.Metadata()
	if err != nil {
		return
	}
	mine := msg.Headers().Get(headerNode) == v.c.cfg.Node
	name, isValue := v.name(msg.Subject())
	switch {
	case mine && !isValue:
		v.changes.noteHeartbeat(meta.Sequence.Stream)
	case isValue:
		if v.changes.noteChange(msg.Subject(), meta.Sequence.Stream) && !mine {
			v.c.memory.drop(name)
		}
	}
}
