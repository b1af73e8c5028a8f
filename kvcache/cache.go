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

// ErrUnnoted means that a purge counts, but that this node can't note it beside the log: if the log is damaged before
// it has noted it, what the purge reached could come back.
var ErrUnnoted = errors.New("the purge counts, but can't be noted on the node's disk")

// MaxKeep bounds how long an entry is kept, and with it how long a purge must be remembered.
const MaxKeep = 30 * 24 * time.Hour

const purgesKept = MaxKeep + time.Hour

// Config says what a Cache works with.
type Config struct {
	Node        string      // unique id of this node
	Name        string      // its name, for operators
	NATS        *nats.Conn  // that the caller opened and closes
	Prefix      string      // of the mesh's subjects, which begins the buckets' names; may be empty
	ReplyRoot   string      // what inboxes of nodes begin with: others are never answered; empty if any may be
	Replicas    int         // of the buckets: 1, or 3 in a cluster
	Alone       bool        // no other node follows this NATS
	MemoryBytes int64       // of the first tier, index included
	BucketBytes int64       // of the second
	Notes       Notes       // keeps what must stand in the log of purges; may be nil
	Lost        func(error) // told when the log has lost some; may be nil
	Log         *slog.Logger
}

// Cache is a node's part of the cache. Its methods are safe for concurrent use between Open and Close.
type Cache struct {
	cfg    Config
	memory *memory
	bucket *bucket
	purges *purgeLog
	values *Values
	seen   seen

	writing writing

	inbox        string        // what other nodes' words on purges come to, each purge's in a token of its own
	tokens       atomic.Uint64 // numbers them
	invalidating atomic.Int64  // invalidations that wait to be written
	purged       atomic.Uint64 // purges that are acknowledged
	purgeTime    atomic.Int64  // what they took, in nanoseconds

	opening sync.Once
	opened  error // what open gave

	mu      sync.Mutex // guards closed, and that nothing begins after it
	closed  bool
	ctx     context.Context //nolint:containedctx // ends with the cache
	stop    context.CancelFunc
	heard   *nats.Subscription // to invalidations of others; nil alone
	words   *nats.Subscription // to inbox; likewise
	running sync.WaitGroup
}

// New checks the configuration. Open starts.
func New(cfg Config) (*Cache, error) {
	if cfg.Node == "" || cfg.NATS == nil || cfg.Log == nil || cfg.BucketBytes <= 0 || cfg.MemoryBytes <= 0 {
		return nil, errors.New("configure cache: node, NATS, log and sizes are needed")
	}
	cfg.Replicas = max(cfg.Replicas, 1)
	js, err := jetstream.New(cfg.NATS)
	if err != nil {
		return nil, fmt.Errorf("configure cache: %w", err)
	}
	c := &Cache{cfg: cfg, memory: newMemory(cfg.MemoryBytes, time.Now), inbox: cfg.NATS.NewInbox()}
	c.bucket, c.purges = newBucket(cfg, cfg.bucketName("cache")), newPurgeLog(cfg, cfg.bucketName("purges"))
	c.bucket.js, c.purges.js = js, js
	c.values = &Values{c: c, bucket: cfg.bucketName("values")}
	c.ctx, c.stop = context.WithCancel(context.Background())
	return c, nil
}

func (c *Config) bucketName(what string) string { return BucketName(c.Prefix, what) }

// Open begins to follow the purges and to use the bucket. It doesn't wait for them: until they are there the cache has
// only its memory, and gives out nothing that a purge could reach. Only the first call does something: a node that
// caches nothing needs no streams, and may open its cache when a route begins to.
func (c *Cache) Open(context.Context) error {
	c.opening.Do(func() { c.opened = c.open() })
	return c.opened
}

func (c *Cache) open() error {
	if err := c.purges.recall(); err != nil {
		return err
	}
	if !c.begin(func() { c.purges.run(c.ctx) }) || !c.begin(func() { c.bucket.run(c.ctx) }) {
		return errors.New("open cache: it is closed")
	}
	if noted := c.purges.noted; noted != nil && !c.begin(func() { noted.run(c.ctx, c.purges.ledger) }) {
		return errors.New("open cache: it is closed")
	}
	if c.cfg.Alone {
		return nil
	}
	var err error
	if c.heard, err = c.cfg.NATS.Subscribe(c.unsafeSubject(), c.hear); err != nil {
		return fmt.Errorf("hear of invalidations: %w", errors.Join(err, c.Close()))
	}
	// Purges subscribe on their own. This one lets all servers know the way here long before: a subscription that comes
	// with its purge may reach a server after the purge has, whose word is then lost, and a lease's end waited for.
	if c.words, err = c.cfg.NATS.Subscribe(c.inbox+".*", func(*nats.Msg) {}); err != nil {
		return fmt.Errorf("hear of purges: %w", errors.Join(err, c.Close()))
	}
	return nil
}

// Close stops. It can be called again, and without Open.
func (c *Cache) Close() error {
	for _, sub := range []*nats.Subscription{c.heard, c.words} {
		if sub != nil && sub.IsValid() {
			_ = sub.Unsubscribe() // fails only when it is gone already
		}
	}
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.stop()
	c.running.Wait()
	return nil
}

// begin runs f in a goroutine that Close waits for. False means that the cache is closed.
func (c *Cache) begin(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.running.Go(f)
	return true
}

// Await waits until the node follows the purges, or ctx ends.
func (c *Cache) Await(ctx context.Context) error {
	for !c.Leased() {
		if !pause(ctx, 2*time.Millisecond) {
			return ctx.Err() //nolint:wrapcheck // the caller's own
		}
	}
	return nil
}

// Epoch is what a fetch that begins now must note in its entry.
func (c *Cache) Epoch() Epoch { return c.purges.epochs.now() }

// Leased reports whether this node follows the purges so closely that it may give out entries without asking. If not,
// each entry must be validated with its origin before use.
func (c *Cache) Leased() bool { return c.purges.leased() }

// Judge says what the purges leave of an entry. url is the entry's URL.
func (c *Cache) Judge(s *Scope, url []byte) Validity { return c.purges.epochs.judge(s, url) }

// Get finds an entry in this node's memory. The caller must Release the view.
func (c *Cache) Get(key []byte, v *View) bool { return c.memory.get(key, v) }

// Load finds an entry in the bucket and brings it into memory. It takes at most Patience.
func (c *Cache) Load(ctx context.Context, key []byte, v *View) bool {
	encoded, ok := c.bucket.get(ctx, key)
	return ok && c.bring(key, encoded, v)
}

// bring puts an entry of the bucket into memory, unless what is there is newer.
func (c *Cache) bring(key, encoded []byte, v *View) bool {
	if c.memory.get(key, v) {
		if !older(v, encoded) {
			return true
		}
		v.Release()
	}
	if c.memory.put(encoded) && c.memory.get(key, v) {
		c.seen.add(v.Scope.URL)
		return true
	}
	v.seg, v.Scope.Tags = nil, v.tags[:0] // it didn't fit: the message itself is the view
	return v.Decode(encoded) == nil
}

// older reports whether the view's fetch began before that of an encoded entry of its key, or whether it is gone
// sooner.
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
	BothTiers        // the bucket too, unless it is full and others would have to leave
	BothAlways       // the bucket too, since it was used before
)

// Put stores an entry in place of what its key had. It copies all of it.
func (c *Cache) Put(e *Entry, tiers Tiers) {
	if most := time.Now().Add(MaxKeep); e.Expires.After(most) {
		e.Expires = most
	}
	buf := encodings.Get().(*[]byte) //nolint:forcetypeassert // the pool holds nothing else
	*buf = e.Append((*buf)[:0])
	c.seen.add(e.Scope.URL)
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

// Stats is what the cache holds and has done since the start.
type Stats struct {
	Ready                                       bool
	MemoryBytes, MemoryMax                      int64
	Entries                                     int
	Hits, Misses, Stored, Evicted, Refused      uint64 // of the memory
	BucketReady                                 bool
	BucketBytes, BucketMax                      int64
	BucketHits, BucketMisses, BucketFailures    uint64
	BucketWritten, BucketSkipped, BucketDropped uint64
	Purges                                      int // that are remembered
	Applied                                     uint64
	Purged                                      uint64        // purges that this node has written
	Purging                                     time.Duration // what they took together
}

// Stats reads the counters.
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
