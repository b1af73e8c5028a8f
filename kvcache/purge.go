package kvcache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

// Purged is the result of a purge.
type Purged struct {
	Sequence uint64       `json:"sequence"` // of the last record in the log of purges
	Nodes    []PurgedNode `json:"nodes"`    // nodes that have applied it, as far as Purge waited for them
}

// PurgedNode is the state of a purge on one node.
type PurgedNode struct {
	Node  string        `json:"node"`
	Name  string        `json:"name,omitempty"`
	State PurgeState    `json:"state"`
	After time.Duration `json:"-"`
}

// PurgeState is the state of a purge on a node.
type PurgeState string

// The states of a purge on a node.
const (
	PurgeApplied PurgeState = "applied"     // the node has acknowledged it
	PurgeExpired PurgeState = "lease-ended" // not acknowledged, but the node returns no entries until it has applied it
)

// errNothing means that there is nothing to purge.
var errNothing = errors.New("nothing to purge")

// Purge writes the purges into the log and waits until this node has applied them. With all, it waits until every node
// has, or its lease is over: then no response that any node begins afterwards comes from an entry that they reach. It
// fails with ErrAway, after which the purge may still take effect, or with ErrUnnoted, after which it has.
func (c *Cache) Purge(ctx context.Context, purges []Purge, all bool) (Purged, error) {
	if len(purges) == 0 {
		return Purged{}, errNothing
	}
	var acks chan *nats.Msg
	reply := ""
	if all && !c.cfg.Alone {
		reply = c.ackInbox + "." + strconv.FormatUint(c.ackTokens.Add(1), 10)
		acks = make(chan *nats.Msg, 1024)
		sub, err := c.cfg.NATS.ChanSubscribe(reply, acks)
		if err != nil {
			return Purged{}, errors.Join(ErrAway, err)
		}
		defer func() { _ = sub.Unsubscribe() }() // fails only on a closed connection
	}
	begun := time.Now()
	if err := c.awaitStream(ctx); err != nil {
		return Purged{}, err
	}
	last, err := c.writeAll(ctx, purges, reply)
	if errors.Is(err, errLost) { // all entries are invalid, but the new log must have the purge too
		if err := c.awaitStream(ctx); err != nil {
			return Purged{}, err
		}
		last, err = c.writeAll(ctx, purges, reply)
	}
	if err != nil {
		return Purged{}, err
	}
	incarnation := c.Epoch().Incarnation
	if err := c.awaitOwn(ctx, last); err != nil {
		return Purged{}, err
	}
	if all && c.purges.noteSaver != nil {
		if err := c.purges.noteSaver.await(ctx, c.purges.ledger, incarnation, last); err != nil {
			return Purged{}, fmt.Errorf("%w (%w)", ErrUnnoted, err)
		}
	}
	out := Purged{
		Sequence: last,
		Nodes:    []PurgedNode{{Node: c.cfg.Node, Name: c.cfg.Name, State: PurgeApplied, After: time.Since(begun)}},
	}
	if acks != nil {
		if err := c.awaitOthers(ctx, &out, acks, begun); err != nil {
			return out, err
		}
	}
	c.purged.Add(1)
	c.purgeTime.Add(int64(time.Since(begun)))
	if c.purges.epochs.count() > maxPurges {
		c.spawn(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			c.purges.compact(ctx)
		})
	}
	return out, nil
}

// awaitStream waits briefly for the log if the node has just started. A node that is alone must have read the log, so
// that it knows what its purges replace.
func (c *Cache) awaitStream(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leaseTime)
	defer cancel()
	for c.Epoch().Incarnation == 0 || (c.cfg.Alone && !c.purges.ready.Load()) {
		if !pause(ctx, 2*time.Millisecond) {
			return ErrAway
		}
	}
	return nil
}

// writeAll writes the records. Only the last one asks for acknowledgements, since a node applies them in order.
func (c *Cache) writeAll(ctx context.Context, purges []Purge, reply string) (last uint64, err error) {
	for i, p := range purges {
		r := purgeRecord{Reach: p.Reach, Text: p.Text, Soft: p.Soft, Node: c.cfg.Node, Name: c.cfg.Name}
		if i == len(purges)-1 {
			r.Reply = reply
		}
		if last, err = c.purges.write(ctx, &r); err != nil {
			return 0, fmt.Errorf("purge: %w", err)
		}
	}
	return last, nil
}

// awaitOwn waits until this node has applied the sequence. If it receives nothing for too long, it consumes the log
// anew.
func (c *Cache) awaitOwn(ctx context.Context, sequence uint64) error {
	short, cancel := context.WithTimeout(ctx, watchStall/2)
	defer cancel()
	if c.purges.awaitApplied(short, sequence) == nil {
		return nil
	}
	c.purges.restart()
	if err := c.purges.awaitApplied(ctx, sequence); err != nil {
		return fmt.Errorf("purge is written (%d) but this node can't follow the log: %w", sequence,
			errors.Join(ErrAway, err))
	}
	return nil
}

// awaitOthers waits until every node whose lease may not be over has acknowledged the purge, or its lease has ended.
// This node has applied the purge already. The leases that it knows by then are all that count: a lease that is renewed
// after the purge was written belongs to a node that has applied it.
//
// A node may never acknowledge the purge:
//
//  1. The purge is written.
//  2. Before the node reads it, another purge of the same subject replaces it in the log.
//  3. The node applies the later purge and renews its lease with a higher sequence, which counts as the
//     acknowledgement.
func (c *Cache) awaitOthers(ctx context.Context, out *Purged, acks <-chan *nats.Msg, begun time.Time) error {
	waiting := c.purges.others()
	for len(waiting) > 0 {
		first := time.Duration(1 << 62)
		for _, h := range waiting {
			first = min(first, time.Until(h.seenAt.Add(leaseTime+leaseMargin)))
		}
		timer := time.NewTimer(max(first, 0))
		_, changed := c.purges.epochs.reached(0)
		select {
		case <-changed:
			for node, h := range c.purges.others() {
				if _, waited := waiting[node]; waited && h.applied >= out.Sequence {
					out.Nodes = append(out.Nodes, PurgedNode{node, h.name, PurgeApplied, time.Since(begun)})
					delete(waiting, node)
				}
			}
		case msg := <-acks:
			node := string(msg.Data)
			if h, waited := waiting[node]; waited {
				out.Nodes = append(out.Nodes, PurgedNode{node, h.name, PurgeApplied, time.Since(begun)})
				delete(waiting, node)
			}
		case now := <-timer.C:
			for node, h := range waiting {
				if !now.Before(h.seenAt.Add(leaseTime + leaseMargin)) {
					out.Nodes = append(out.Nodes, PurgedNode{node, h.name, PurgeExpired, time.Since(begun)})
					delete(waiting, node)
				}
			}
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("purge is written but not every node has said that it has applied it: %w", ctx.Err())
		}
		timer.Stop()
	}
	slices.SortFunc(out.Nodes[1:], func(a, b PurgedNode) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Node, b.Node))
	})
	return nil
}
