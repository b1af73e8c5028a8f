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

// Purged says what became of a purge.
type Purged struct {
	Sequence uint64       `json:"sequence"` // of the last record in the log of purges
	Nodes    []PurgedNode `json:"nodes"`    // that have applied it, as far as they were waited for
}

// PurgedNode says how a node stands to a purge.
type PurgedNode struct {
	Node  string        `json:"node"`
	Name  string        `json:"name,omitempty"`
	State PurgeState    `json:"state"`
	After time.Duration `json:"-"`
}

// PurgeState says how a node stands to a purge. See the constants.
type PurgeState string

// The states.
const (
	PurgeApplied PurgeState = "applied"     // the node said so
	PurgeExpired PurgeState = "lease-ended" // it didn't, but gives out nothing until it has
)

// errNothing means a purge of nothing.
var errNothing = errors.New("nothing to purge")

// Purge writes the purges into the log, and waits until this node has applied them; with all, until every node has, or
// gives out nothing any more: then no response that any node begins afterwards comes from an entry that they reach. It
// fails with ErrAway, after which the purge may still come to pass, or with ErrUnnoted, after which it has.
func (c *Cache) Purge(ctx context.Context, purges []Purge, all bool) (Purged, error) {
	if len(purges) == 0 {
		return Purged{}, errNothing
	}
	var words chan *nats.Msg
	reply := ""
	if all && !c.cfg.Alone {
		reply = c.inbox + "." + strconv.FormatUint(c.tokens.Add(1), 10)
		words = make(chan *nats.Msg, 1024)
		sub, err := c.cfg.NATS.ChanSubscribe(reply, words)
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
	if errors.Is(err, errLost) { // all is invalid, but the log that follows must have it too
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
	if all && c.purges.noted != nil {
		if err := c.purges.noted.await(ctx, c.purges.ledger, incarnation, last); err != nil {
			return Purged{}, fmt.Errorf("%w (%w)", ErrUnnoted, err)
		}
	}
	out := Purged{
		Sequence: last,
		Nodes:    []PurgedNode{{Node: c.cfg.Node, Name: c.cfg.Name, State: PurgeApplied, After: time.Since(begun)}},
	}
	if words != nil {
		if err := c.awaitOthers(ctx, &out, words, begun); err != nil {
			return out, err
		}
	}
	c.purged.Add(1)
	c.purgeTime.Add(int64(time.Since(begun)))
	if c.purges.epochs.count() > maxPurges {
		c.begin(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			c.purges.compact(ctx)
		})
	}
	return out, nil
}

// awaitStream waits a moment for the log of a node that has just started. One that is alone has read it first, so that
// it knows what its purges replace.
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

// writeAll writes the records; only the last asks for word, since a node applies them in order.
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

// awaitOwn waits for this node's own watch; if it stalls it is made anew.
func (c *Cache) awaitOwn(ctx context.Context, sequence uint64) error {
	short, cancel := context.WithTimeout(ctx, watchStall/2)
	defer cancel()
	if c.purges.applied(short, sequence) == nil {
		return nil
	}
	c.purges.restart()
	if err := c.purges.applied(ctx, sequence); err != nil {
		return fmt.Errorf("purge is written (%d) but this node can't follow the log: %w", sequence,
			errors.Join(ErrAway, err))
	}
	return nil
}

// awaitOthers waits for the word of every node whose lease may not be over, or for the lease's end. A node gives no
// word on a purge that another of the same has replaced in the log before it came there: then its next lease tells. A
// lease that is renewed after the purge was written is renewed by a node that has applied it, so those that count are
// known once this node has applied it itself.
func (c *Cache) awaitOthers(ctx context.Context, out *Purged, words <-chan *nats.Msg, begun time.Time) error {
	open := c.purges.others()
	for len(open) > 0 {
		first := time.Duration(1 << 62)
		for _, h := range open {
			first = min(first, time.Until(h.heard.Add(leaseTime+leaseMargin)))
		}
		timer := time.NewTimer(max(first, 0))
		_, changed := c.purges.epochs.wait(0)
		select {
		case <-changed:
			for node, h := range c.purges.others() {
				if _, waited := open[node]; waited && h.applied >= out.Sequence {
					out.Nodes = append(out.Nodes, PurgedNode{node, h.name, PurgeApplied, time.Since(begun)})
					delete(open, node)
				}
			}
		case msg := <-words:
			node := string(msg.Data)
			if h, waited := open[node]; waited {
				out.Nodes = append(out.Nodes, PurgedNode{node, h.name, PurgeApplied, time.Since(begun)})
				delete(open, node)
			}
		case now := <-timer.C:
			for node, h := range open {
				if !now.Before(h.heard.Add(leaseTime + leaseMargin)) {
					out.Nodes = append(out.Nodes, PurgedNode{node, h.name, PurgeExpired, time.Since(begun)})
					delete(open, node)
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
