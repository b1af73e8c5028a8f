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

// headerNode names the node that wrote a value, or that shows with an empty one that it follows the changes.
const headerNode = "Millrace-Node"

// How long a node believes its memory after it has last shown that it hears of all changes, and how often it shows it.
const (
	followedFor   = 2 * time.Second
	followedEvery = 500 * time.Millisecond
)

// changes is what a node hears of the values' bucket. It knows whether memory is as new as the bucket, and which values
// have changed lately, so that a slow read can't bring an old one back. It is safe for concurrent use.
type changes struct {
	until atomic.Int64 // memory is believed until then, in Unix nanoseconds

	mu     sync.Mutex           // guards what follows
	lately [2]map[string]uint64 // sequence of the last change by subject, in two generations
	own    uint64               // sequence of the last sign of life that came back
	came   chan struct{}        // closed and replaced when own grows
}

// maxLately bounds the changes of a generation: more than happen while one read is answered.
const maxLately = 1 << 15

// followed reports whether all changes but those of the last moments are known.
func (h *changes) followed() bool { return time.Now().UnixNano() < h.until.Load() }

// note takes in that a subject has changed. False means that a later change is known.
func (h *changes) note(subject string, sequence uint64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.last(subject) > sequence {
		return false
	}
	if len(h.lately[0]) >= maxLately || h.lately[0] == nil {
		h.lately[1], h.lately[0] = h.lately[0], map[string]uint64{}
	}
	h.lately[0][subject] = sequence
	return true
}

// last is the last change of a subject that is known; 0 if there was none lately. The caller holds mu.
func (h *changes) last(subject string) uint64 { return max(h.lately[0][subject], h.lately[1][subject]) }

// newest reports whether no later change than the sequence is known.
func (h *changes) newest(subject string, sequence uint64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last(subject) <= sequence
}

// cameBack takes in a sign of life of this node.
func (h *changes) cameBack(sequence uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.own = max(h.own, sequence)
	if h.came != nil {
		close(h.came)
	}
	h.came = make(chan struct{})
}

// await waits until the sign of life of that sequence has come back.
func (h *changes) await(ctx context.Context, sequence uint64) bool {
	for {
		h.mu.Lock()
		if h.came == nil {
			h.came = make(chan struct{})
		}
		own, came := h.own, h.came
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

// openOnce opens the bucket at the first use, and begins to follow its changes.
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
	} else if !v.c.begin(func() { v.follow(v.c.ctx) }) {
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

// follow watches the changes until ctx ends, and begins again when it doesn't hear its own signs of life.
func (v *Values) follow(ctx context.Context) {
	for ctx.Err() == nil {
		_ = v.watch(ctx) // whatever broke: meanwhile memory isn't believed
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
		return err //nolint:wrapcheck // follow begins again
	}
	watch, err := consumer.Consume(v.changed)
	if err != nil {
		return err //nolint:wrapcheck // see above
	}
	defer watch.Stop()
	v.c.memory.clear('A') // what has changed before is unknown
	tick := time.NewTicker(followedEvery)
	defer tick.Stop()
	for {
		begun := time.Now()
		if err := v.showLife(ctx); err != nil {
			return err
		}
		v.changes.until.Store(begun.Add(followedFor).UnixNano())
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// showLife writes a sign of life and waits for it to come back behind all changes before it.
func (v *Values) showLife(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, followedFor/2)
	defer cancel()
	msg := &nats.Msg{
		Subject: "$KV." + v.bucket + ".follows." + v.c.cfg.Node,
		Header:  nats.Header{headerNode: {v.c.cfg.Node}},
	}
	ack, err := v.c.bucket.js.PublishMsg(ctx, msg, jetstream.WithRetryAttempts(0))
	if err != nil {
		return err //nolint:wrapcheck // follow begins again
	}
	if !v.changes.await(ctx, ack.Sequence) {
		return errStalled
	}
	return nil
}

// changed hears of a change. What this node has written itself it has in memory already.
func (v *Values) changed(msg jetstream.Msg) {
	meta, err := msg.Metadata()
	if err != nil {
		return
	}
	mine := msg.Headers().Get(headerNode) == v.c.cfg.Node
	name, isValue := v.name(msg.Subject())
	switch {
	case mine && !isValue:
		v.changes.cameBack(meta.Sequence.Stream)
	case isValue:
		if v.changes.note(msg.Subject(), meta.Sequence.Stream) && !mine {
			v.c.memory.drop(name)
		}
	}
}
