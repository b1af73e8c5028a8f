package kvcache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"hash/maphash"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Patience is how long a caller waits for the bucket at most.
const Patience = 20 * time.Millisecond

// bucket is the second tier: a stream that can be opened as a KV bucket and drops its oldest entries when it is full.
// Reads are direct gets. Writes wait in bounded queues and are dropped when a queue is full. It is safe for concurrent
// use.
type bucket struct {
	cfg   Config
	name  string
	js    jetstream.JetStream
	ready atomic.Bool
	// Encoded entries, owned by the queue. All writes of a key are in the same queue, so they stay in order. Never
	// closed.
	queues    [writers]chan []byte
	seed      maphash.Seed
	queued    atomic.Int64
	size      atomic.Int64 // bytes of the stream at the last look, plus what was written since
	skipUntil atomic.Int64 // until when reads are skipped after a slow one, in Unix nanoseconds

	hits, misses, failures, written, skipped, dropped atomic.Uint64

	writers sync.WaitGroup
}

// Limits of the waiting writes, and the number of writers.
const (
	maxQueued      = 4096
	maxQueuedBytes = 32 << 20
	writers        = 4
)

func newBucket(cfg Config, name string) *bucket {
	b := &bucket{cfg: cfg, name: name, seed: maphash.MakeSeed()}
	for i := range b.queues {
		b.queues[i] = make(chan []byte, maxQueued/writers)
	}
	return b
}

func (b *bucket) subject(key []byte) string {
	sum := sha256.Sum256(key)
	var name [32]byte
	hex.Encode(name[:], sum[:16])
	return "$KV." + b.name + "." + string(name[:])
}

// run opens the stream, writes what is queued and tracks the stream's size until ctx ends.
func (b *bucket) run(ctx context.Context) {
	for _, queue := range b.queues {
		b.writers.Go(func() { b.write(ctx, queue) })
	}
	defer b.writers.Wait()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for n := 0; ; n++ {
		if !b.ready.Load() || n%10 == 0 {
			b.open(ctx)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			b.ready.Store(false)
			return
		}
	}
}

// config returns the configuration of a bucket that drops its oldest entries when it is full.
func (b *bucket) config(name, description string) jetstream.StreamConfig {
	cfg := jetstream.StreamConfig{
		Name: "KV_" + name, Description: description, Subjects: []string{"$KV." + name + ".>"},
		Storage:  jetstream.FileStorage,
		Replicas: b.cfg.Replicas, MaxMsgsPerSubject: 1, MaxBytes: b.cfg.BucketBytes, MaxAge: MaxKeep,
		Discard:     jetstream.DiscardOld,
		AllowRollup: true, AllowDirect: true, AllowMsgTTL: true,
	}
	if b.cfg.Replicas == 1 {
		cfg.PersistMode = jetstream.AsyncPersistMode // a cache may lose its last writes
	}
	return cfg
}

func (b *bucket) open(ctx context.Context) {
	stream, err := OpenStream(ctx, b.cfg.NATS, b.js, b.config(b.name, "Millrace: cached entries"), SizeFollows)
	if err != nil {
		b.ready.Store(false)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	info, err := stream.Info(ctx)
	if err != nil {
		return
	}
	b.size.Store(int64(info.State.Bytes)) //nolint:gosec // G115: a size on a disk
	b.ready.Store(true)
}

// get reads the encoded entry of a key, within Patience. After a read that took longer, reads are skipped for a second.
func (b *bucket) get(ctx context.Context, key []byte) ([]byte, bool) {
	if !b.ready.Load() || time.Now().UnixNano() < b.skipUntil.Load() {
		return nil, false
	}
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	encoded, err := b.read(ctx, key)
	if err != nil && ctx.Err() != nil {
		b.skipUntil.Store(time.Now().Add(time.Second).UnixNano())
	}
	return encoded, encoded != nil
}

// read reads the encoded entry of a key; nil if there is none. An error means that the bucket didn't answer.
func (b *bucket) read(ctx context.Context, key []byte) ([]byte, error) {
	msg, err := b.cfg.NATS.RequestWithContext(ctx, "$JS.API.DIRECT.GET.KV_"+b.name+"."+b.subject(key), nil)
	if err != nil {
		b.failures.Add(1)
		return nil, err
	}
	if msg.Header.Get("Status") != "" || len(msg.Data) < entryFixed || msg.Data[0] != entryVersion ||
		encodedSize(msg.Data) != len(msg.Data) || !equal(encodedKey(msg.Data), key) ||
		encodedExpires(msg.Data) <= time.Now().UnixMilli() {
		b.misses.Add(1)
		return nil, nil
	}
	b.hits.Add(1)
	return msg.Data, nil
}

// put queues a copy of an encoded entry. If the bucket is full, so that others would be dropped for it, only entries
// that were used before are written. It reports whether the entry was queued.
func (b *bucket) put(encoded []byte, used bool) bool {
	switch {
	case !b.ready.Load() || int64(len(encoded)) > b.cfg.BucketBytes/4:
		return false
	case !used && b.full():
		b.skipped.Add(1)
		return false
	case b.queued.Add(int64(len(encoded))) > maxQueuedBytes:
		b.queued.Add(-int64(len(encoded)))
		b.dropped.Add(1)
		return false
	}
	select {
	case b.queues[maphash.Bytes(b.seed, encodedKey(encoded))%writers] <- append([]byte(nil), encoded...):
		return true
	default:
		b.queued.Add(-int64(len(encoded)))
		b.dropped.Add(1)
		return false
	}
}

// full reports whether a write makes the bucket drop older entries.
func (b *bucket) full() bool { return b.size.Load() > b.cfg.BucketBytes/10*9 }

func (b *bucket) write(ctx context.Context, queue <-chan []byte) {
	for {
		select {
		case encoded := <-queue:
			b.queued.Add(-int64(len(encoded)))
			b.publish(ctx, encoded)
		case <-ctx.Done():
			return
		}
	}
}

func (b *bucket) publish(ctx context.Context, encoded []byte) {
	_ = b.send(ctx, encoded) // an error is counted, and nobody waits for the result
}

// send writes an encoded entry and returns when the bucket has it. An entry that expires within a second isn't written.
func (b *bucket) send(ctx context.Context, encoded []byte) error {
	left := time.Until(time.UnixMilli(encodedExpires(encoded)))
	if left < time.Second {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, writeTime)
	defer cancel()
	msg := &nats.Msg{Subject: b.subject(encodedKey(encoded)), Data: encoded, Header: nats.Header{}}
	msg.Header.Set("Nats-TTL", strconv.Itoa(int(left/time.Second)+1))
	if _, err := b.js.PublishMsg(ctx, msg, jetstream.WithRetryAttempts(0)); err != nil {
		b.failures.Add(1)
		return err
	}
	b.size.Add(int64(len(encoded)))
	b.written.Add(1)
	return nil
}
