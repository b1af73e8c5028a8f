package kvcache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ErrAway means that the log of purges can't be written: NATS or its storage is away.
var ErrAway = errors.New("the store is away")

// ErrUnnoted means that a purge has taken effect, but this node can't note it on its disk. If the log is damaged before
// it is noted, entries that it removed could come back.
var ErrUnnoted = errors.New("the purge counts, but can't be noted on the node's disk")

// MaxKeep is how long an entry is kept at most, and therefore how long a purge must be remembered.
const MaxKeep = 30 * 24 * time.Hour

const purgesKept = MaxKeep + time.Hour

// Config configures a Cache.
type Config struct {
	Node        string      // unique id of this node
	Name        string      // its name, for operators
	NATS        *nats.Conn  // opened and closed by the caller
	Prefix      string      // of the mesh's subjects; begins the buckets' names; may be empty
	ReplyRoot   string      // prefix of the nodes' inboxes: no other subject gets a reply; empty allows any
	Replicas    int         // of the buckets: 1, or 3 in a cluster
	Remote      bool        // other nodes make and change the buckets, this one only uses them
	Alone       bool        // no other node uses this NATS
	MemoryBytes int64       // of the first tier, index included
	BucketBytes int64       // of the second
	Notes       Notes       // remembers which purges the log must have; may be nil
	Lost        func(error) // called when the log has lost purges; may be nil
	Log         *slog.Logger
}

// Cache is a node's part of the cache. Its methods are safe for concurrent use between Open and Close.
type Cache struct {
	cfg      Config
	memory   *memory
	bucket   *bucket
	purges   *purgeLog
	values   *Values
	seenURLs seenURLs

	groupWrites groupWrites

	ackInbox     string        // where nodes acknowledge purges; each purge has its own token after it
	ackTokens    atomic.Uint64 // the last token
	invalidating atomic.Int64  // invalidations that are waiting to be written
	purged       atomic.Uint64 // acknowledged purges
	purgeTime    atomic.Int64  // what they took, in nanoseconds

	opening sync.Once
	openErr error // result of open

	mu            sync.Mutex // guards closed; nothing begins after it is set
	closed        bool
	ctx           context.Context //nolint:containedctx // ends with the cache
	stop          context.CancelFunc
	invalidateSub *nats.Subscription // receives invalidations of other nodes; nil on a node that is alone
	ackSub        *nats.Subscription // subscribes to ackInbox; nil likewise
	running       sync.WaitGroup
}

// New checks the configuration and returns a Cache. Open starts it.
func New(cfg Config) (*Cache, error) {
	if cfg.Node == "" || cfg.NATS == nil || cfg.Log == nil || cfg.BucketBytes <= 0 || cfg.MemoryBytes <= 0 {
		return nil, errors.New("configure cache: node, NATS, log and sizes are needed")
	}
	if cfg.Replicas = max(cfg.Replicas, 1); cfg.Remote {
		cfg.Replicas = 0
	}
	js, err := jetstream.New(cfg.NATS)
	if err != nil {
		return nil, fmt.Errorf("configure cache: %w", err)
	}
	c := &Cache{cfg: cfg, memory: newMemory(cfg.MemoryBytes, time.Now), ackInbox: cfg.NATS.NewInbox()}
	c.bucket, c.purges = newBucket(cfg, cfg.bucketName("cache")), newPurgeLog(cfg, cfg.bucketName("purges"))
	c.bucket.js, c.purges.js = js, js
	c.values = &Values{c: c, bucket: cfg.bucketName("values")}
	c.ctx, c.stop = context.WithCancel(context.Background())
	return c, nil
}

func (c *Config) bucketName(what string) string { return BucketName(c.Prefix, what) }

// Open starts to follow the purges and to use the bucket, without waiting for either. Until then the cache has only its
// memory, and returns nothing that a purge could reach. Only the first call has an effect: a node that caches nothing
// needs no streams, and may open its cache when a route begins to use it.
func (c *Cache) Open(context.Context) error {
	c.opening.Do(func() { c.openErr = c.open() })
	return c.openErr
}

func (c *Cache) open() error {
	if err := c.purges.loadNote(); err != nil {
		return err
	}
	if !c.spawn(func() { c.purges.run(c.ctx) }) || !c.spawn(func() { c.bucket.run(c.ctx) }) {
		return errors.New("open cache: it is closed")
	}
	if saver := c.purges.noteSaver; saver != nil && !c.spawn(func() { saver.run(c.ctx, c.purges.ledger) }) {
		return errors.New("open cache: it is closed")
	}
	if c.cfg.Alone {
		return nil
	}
	var err error
	if c.invalidateSub, err = c.cfg.NATS.Subscribe(c.invalidateSubject(), c.handleInvalidation); err != nil {
		return fmt.Errorf("hear of invalidations: %w", errors.Join(err, c.Close()))
	}
	// Each purge has its own subscription to ackInbox. This one makes all servers know the inbox long before.
	// Otherwise:
	//
	//  1. This node subscribes for the acknowledgements of a purge, and writes the purge.
	//  2. Another server gets the purge before the subscription.
	//  3. The acknowledgement of its node has no subscriber there and is lost. The purge waits for the end of a lease.
	if c.ackSub, err = c.cfg.NATS.Subscribe(c.ackInbox+".*", func(*nats.Msg) {}); err != nil {
		return fmt.Errorf("hear of purges: %w", errors.Join(err, c.Close()))
	}
	return nil
}

// Close stops the cache. It may be called more than once, and without Open.
func (c *Cache) Close() error {
	for _, sub := range []*nats.Subscription{c.invalidateSub, c.ackSub} {
		if sub != nil && sub.IsValid() {
			_ = sub.Unsubscribe() // fails only when the connection is gone
		}
	}
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.stop()
	c.running.Wait()
	return nil
}

// spawn runs f in a goroutine that Close waits for. It reports false if the cache is closed.
func (c *Cache) spawn(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.running.Go(f)
	return true
}

// Await waits until the node follows the purges. It fails with ctx's error.
func (c *Cache) Await(ctx context.Context) error {
	for !c.Leased() {
		if !pause(ctx, 2*time.Millisecond) {
			return ctx.Err()
		}
	}
	return nil
}

// Epoch returns the epoch for the entry of a fetch that begins now.
func (c *Cache) Epoch() Epoch { return c.purges.epochs.now() }

// Leased reports whether this node follows the purges closely enough to use entries without asking. Otherwise each
// entry must be validated with its origin before use.
func (c *Cache) Leased() bool { return c.purges.leased() }

// Judge returns the validity of an entry under the purges. url is the entry's URL.
func (c *Cache) Judge(s *Scope, url []byte) Validity { return c.purges.epochs.validity(s, url) }

// Get finds an entry in this node's memory. The caller must Release the view.
func (c *Cache) Get(key []byte, v *View) bool { return c.memory.get(key, v) }

// Load finds an entry in the bucket and stores it in memory. It takes at most Patience.
func (c *Cache) Load(ctx context.Context, key []byte, v *View) bool {
	encoded, ok := c.bucket.get(ctx, key)
	return ok && c.toMemory(key, encoded, v)
}

// toMemory stores an entry of the bucket in memory, unless memory has a newer one.
func (c *Cache) toMemory(key, encoded []byte, v *View) bool {
	if c.memory.get(key, v) {
		if !older(v, encoded) {
			return true
		}
		v.Release()
	}
	if c.memory.put(encoded) && c.memory.get(key, v) {
		c.seenURLs.add(v.Scope.URL)
		return true
	}
	v.seg, v.Scope.Tags = nil, v.tags[:0] // it didn't fit: the view aliases the message
	return v.Decode(encoded) == nil
}

// older reports whether the view is older than an encoded entry of its key: its fetch began earlier, or it expires
// earlier.
func older(v *View, encoded []byte) bool {
	var e Entry
	if e.Decode(encoded) != nil {
		return false
	}
	a, b := v.Scope.Epoch, e.Scope.Epoch
	return a.Incarnation != b.Incarnation || a.Sequence < b.Sequence ||
		(a.Sequence == b.Sequence && v.Expires.Before(e.Expires))
}

// Tiers says where Put writes an entry.
type Tiers int

// The tiers.
const (
	MemoryOnly Tiers = iota
	BothTiers        // the bucket too, unless it is full and would drop others
	BothAlways       // the bucket too, since the entry was used before
)

// Put stores an entry and replaces the one of its key. It copies all of it.
func (c *Cache) Put(e *Entry, tiers Tiers) {
	if most := time.Now().Add(MaxKeep); e.Expires.After(most) {
		e.Expires = most
	}
	buf := encodings.Get().(*[]byte) // the pool holds nothing else
	*buf = e.Append((*buf)[:0])
	c.seenURLs.add(e.Scope.URL)
	c.memory.put(*buf)
	if tiers != MemoryOnly {
		c.bucket.put(*buf, tiers == BothAlways)
	}
	if cap(*buf) <= 1<<20 {
		encodings.Put(buf)
	}
}

var encodings = sync.Pool{New: func() any { b := make([]byte, 0, 8192); return &b }}

// Drop removes an entry from this node's memory.
func (c *Cache) Drop(key []byte) { c.memory.drop(key) }

// Stats describes what the cache holds and has done since the start.
type Stats struct {
	Ready                                       bool
	MemoryBytes, MemoryMax                      int64
	Entries                                     int
	Hits, Misses, Stored, Evicted, Refused      uint64 // of the memory
	BucketReady                                 bool
	BucketBytes, BucketMax                      int64
	BucketHits, BucketMisses, BucketFailures    uint64
	BucketWritten, BucketSkipped, BucketDropped uint64
	Purges                                      int // purges that are remembered
	Applied                                     uint64
	Purged                                      uint64        // purges that this node has written
	Purging                                     time.Duration // total time of those purges
}

// Stats returns the current values.
func (c *Cache) Stats() Stats {
	m, b := &c.memory.stats, c.bucket
	s := Stats{
		Ready: c.Leased(), MemoryMax: c.memory.capacity(), Hits: m.hits.Load(), Misses: m.misses.Load(),
		Stored: m.stored.Load(), Evicted: m.evicted.Load(),
		Refused: m.refused.Load(), BucketReady: b.ready.Load(), BucketBytes: b.size.Load(),
		BucketMax: c.cfg.BucketBytes, BucketHits: b.hits.Load(),
		BucketMisses: b.misses.Load(), BucketFailures: b.failures.Load(), BucketWritten: b.written.Load(),
		BucketSkipped: b.skipped.Load(),
		BucketDropped: b.dropped.Load(), Purges: c.purges.epochs.count(), Applied: c.Epoch().Sequence,
		Purged: c.purged.Load(), Purging: time.Duration(c.purgeTime.Load()),
	}
	s.MemoryBytes, s.Entries = c.memory.used()
	return s
}
