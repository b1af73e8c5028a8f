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

// bucket is the second tier: a stream that opens as a KV bucket, in which the oldest entries leave when it is full.
// Reads are direct gets; writes wait in a bounded queue and are given up when it is full. It is safe for concurrent
// use.
type bucket struct {
	cfg   Config
	name  string
	js    jetstream.JetStream
	ready atomic.Bool
	// encoded entries, owned by the queue; of one key always the same, so that its writes stay in order; closed by
	// nobody
	queues [writers]chan []byte
	seed   maphash.Seed
	queued atomic.Int64
	size   atomic.Int64 // bytes of the stream when it was last asked, and what was written since
	slow   atomic.Int64 // until when reads are left out, after one that took too long, in Unix nanoseconds

	hits, misses, failures, written, skipped, dropped atomic.Uint64

	writers sync.WaitGroup
}

// Bounds of the writes that wait.
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

// run opens the stream, writes what waits and keeps an eye on the size, until ctx ends.
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

// config is that of a bucket in which the oldest entries leave.
func (b *bucket) config(name, description string) jetstream.StreamConfig {
	cfg := jetstream.StreamConfig{
		Name: "KV_" + name, Description: description, Subjects: []string{"$KV." + name + ".>"},
		Storage:  jetstream.FileStorage,
		Replicas: b.cfg.Replicas, MaxMsgsPerSubject: 1, MaxBytes: b.cfg.BucketBytes, MaxAge: MaxKeep,
		Discard:     jetstream.DiscardOld,
		AllowRollup: true, AllowDirect: true, AllowMsgTTL: true,
	}
	if b.cfg.Replicas == 1 {
		cfg.PersistMode = jetstream.AsyncPersistMode // a cache may lose what it wrote last
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

// get reads the encoded entry of a key, within Patience. After a read that took longer, none is tried for a second.
func (b *bucket) get(ctx context.Context, key []byte) ([]byte, bool) {
	if !b.ready.Load() || time.Now().UnixNano() < b.slow.Load() {
		return nil, false
	}
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	encoded, err := b.ask(ctx, key)
	if err != nil && ctx.Err() != nil {
		b.slow.Store(time.Now().Add(time.Second).UnixNano())
	}
	return encoded, encoded != nil
}

// ask reads the encoded entry of a key; nil if there is none. An error means that nobody has said so.
func (b *bucket) ask(ctx context.Context, key []byte) ([]byte, error) {
	msg, err := b.cfg.NATS.RequestWithContext(ctx, "$JS.API.DIRECT.GET.KV_"+b.name+"."+b.subject(key), nil)
	if err != nil {
		b.failures.Add(1)
		return nil, err //nolint:wrapcheck // the callers only want to know that there is one
	}
	if msg.Header.Get("Status") != "" || len(msg.Data) < entryFixed || msg.Data[0] != entryVersion ||
		encodedSize(msg.Data) != len(msg.Data) || !same(encodedKey(msg.Data), key) ||
		encodedExpires(msg.Data) <= time.Now().UnixMilli() {
		b.misses.Add(1)
		return nil, nil
	}
	b.hits.Add(1)
	return msg.Data, nil
}

// put writes an encoded entry later. Under pressure, when others would have to leave for it, only what was asked for
// again is written. It keeps a copy of encoded.
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

// full reports whether writing makes others leave.
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
	_ = b.send(ctx, encoded) // it is counted, and nobody waits for it
}

// send writes an encoded entry and returns when the bucket has it. One that is about to expire isn't written.
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
		return err //nolint:wrapcheck // the callers only want to know that there is one
	}
	b.size.Add(int64(len(encoded)))
	b.written.Add(1)
	return nil
}
