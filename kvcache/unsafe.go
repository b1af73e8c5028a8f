package kvcache

import (
	"context"
	"encoding/json"
	"time"

	"github.com/nats-io/nats.go"
)

// unsafeSubject is where a node tells the others that it has invalidated what only they may have.
func (c *Cache) unsafeSubject() string {
	if c.cfg.Prefix == "" {
		return "millrace.cache.invalidate"
	}
	return c.cfg.Prefix + ".millrace.cache.invalidate"
}

// Invalidate makes entries of the URLs invalid after a request that may have changed them (RFC 9111 §4.4). Where this
// node may have such entries, or the bucket has (keys names them), that goes into the log of purges, and it waits for
// that, at most Patience: afterwards it goes on by itself. Else the other nodes are told, who do the same if they may
// have any.
func (c *Cache) Invalidate(ctx context.Context, urls []string, keys [][]byte, tags []string) {
	var purges []Purge
	for _, tag := range tags {
		purges = append(purges, Purge{Reach: ReachTag, Text: tag})
	}
	var others []string
	for i, url := range urls {
		if c.seen.has(Hash(ReachURL, url), false) || c.stored(ctx, keys[i]) {
			purges = append(purges, Purge{Reach: ReachURL, Text: url})
		} else {
			others = append(others, url)
		}
	}
	if len(others) > 0 && !c.cfg.Alone {
		if b, err := json.Marshal(others); err == nil {
			_ = c.cfg.NATS.Publish(c.unsafeSubject(), b) // while NATS is away no lease is renewed
		}
	}
	if len(purges) > 0 {
		c.purgeSoon(ctx, purges)
	}
}

// stored reports whether the bucket has the key.
func (c *Cache) stored(ctx context.Context, key []byte) bool {
	if key == nil {
		return false
	}
	_, ok := c.bucket.get(ctx, key)
	return ok
}

// purgeSoon purges in a goroutine and waits for it at most Patience. Beyond a few that wait, one purge of the hosts'
// worth stands for all: the whole cache becomes stale rather than wrong.
func (c *Cache) purgeSoon(ctx context.Context, purges []Purge) {
	if c.invalidating.Add(1) > maxInvalidating {
		purges = []Purge{{Reach: ReachAll, Soft: true}}
	}
	applied := c.purges.epochs.pend(purges) // this node's own clients see their writes, however long the log takes
	done := make(chan struct{})
	began := c.begin(func() {
		defer close(done)
		defer c.invalidating.Add(-1)
		defer applied()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if _, err := c.Purge(ctx, purges, false); err != nil {
			c.cfg.Log.WarnContext(ctx,
				"an invalidation isn't written: entries that a request has changed may be served until they expire",
				"cause", err)
		}
	})
	if !began {
		applied()
		return
	}
	timer := time.NewTimer(Patience)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// maxInvalidating bounds the invalidations that wait to be written.
const maxInvalidating = 256

// hear takes in what another node has invalidated.
func (c *Cache) hear(msg *nats.Msg) {
	var urls []string
	if json.Unmarshal(msg.Data, &urls) != nil {
		return
	}
	var purges []Purge
	for _, url := range urls {
		if c.seen.has(Hash(ReachURL, url), false) {
			purges = append(purges, Purge{Reach: ReachURL, Text: url})
		}
	}
	if len(purges) > 0 {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // nobody waits
		c.purgeSoon(ctx, purges)
	}
}
