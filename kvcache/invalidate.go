package kvcache

import (
	"context"
	"encoding/json"
	"time"

	"github.com/nats-io/nats.go"
)

// invalidateSubject is the subject on which a node announces invalidations that may concern only other nodes.
func (c *Cache) invalidateSubject() string {
	if c.cfg.Prefix == "" {
		return "millrace.cache.invalidate"
	}
	return c.cfg.Prefix + ".millrace.cache.invalidate"
}

// Invalidate makes the entries of URLs invalid after a request that may have changed them (RFC 9111 §4.4). If this node
// or the bucket may have such entries (keys are their keys), it writes purges into the log, and waits for that up to
// Patience; then the write goes on in the background. Otherwise it announces the URLs to the other nodes, which do the
// same if they may have entries.
func (c *Cache) Invalidate(ctx context.Context, urls []string, keys [][]byte, tags []string) {
	var purges []Purge
	for _, tag := range tags {
		purges = append(purges, Purge{Reach: ReachTag, Text: tag})
	}
	var others []string
	for i, url := range urls {
		if c.seenURLs.has(Hash(ReachURL, url), false) || c.inBucket(ctx, keys[i]) {
			purges = append(purges, Purge{Reach: ReachURL, Text: url})
		} else {
			others = append(others, url)
		}
	}
	if len(others) > 0 && !c.cfg.Alone {
		if b, err := json.Marshal(others); err == nil {
			_ = c.cfg.NATS.Publish(c.invalidateSubject(), b) // without NATS no lease is renewed
		}
	}
	if len(purges) > 0 {
		c.purgeSoon(ctx, purges)
	}
}

// inBucket reports whether the bucket has the key.
func (c *Cache) inBucket(ctx context.Context, key []byte) bool {
	if key == nil {
		return false
	}
	_, ok := c.bucket.get(ctx, key)
	return ok
}

// purgeSoon purges in a goroutine and waits for it up to Patience. If too many invalidations are waiting, it purges
// everything softly instead: the whole cache becomes stale rather than wrong.
func (c *Cache) purgeSoon(ctx context.Context, purges []Purge) {
	if c.invalidating.Add(1) > maxInvalidating {
		purges = []Purge{{Reach: ReachAll, Soft: true}}
	}
	applied := c.purges.epochs.markPending(purges) // its clients see their writes, however long the log takes
	done := make(chan struct{})
	began := c.spawn(func() {
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

// maxInvalidating is how many invalidations may wait to be written.
const maxInvalidating = 256

// handleInvalidation handles an announcement of another node.
func (c *Cache) handleInvalidation(msg *nats.Msg) {
	var urls []string
	if json.Unmarshal(msg.Data, &urls) != nil {
		return
	}
	var purges []Purge
	for _, url := range urls {
		if c.seenURLs.has(Hash(ReachURL, url), false) {
			purges = append(purges, Purge{Reach: ReachURL, Text: url})
		}
	}
	if len(purges) > 0 {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // so that purgeSoon doesn't wait
		c.purgeSoon(ctx, purges)
	}
}
