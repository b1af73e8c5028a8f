package deploy

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"millrace/kvcache"
)

// bucketBytes bounds the bucket. A record has about 1 KiB, and a site has some hundred.
const bucketBytes = 64 << 20

// history is how many records of a key the bucket keeps, which is the most that JetStream allows.
const history = 64

// bucketTime bounds one read or write of the bucket.
const bucketTime = 5 * time.Second

// bucket is the KV bucket with the records. It is safe for concurrent use.
type bucket struct {
	cfg  *Config
	js   jetstream.JetStream
	name string
	kv   atomic.Pointer[opened]
}

// opened is the bucket as it was found. Another one of the same name, made after the first was deleted, is another
// incarnation, with revisions of its own.
type opened struct {
	jetstream.KeyValue

	stream      jetstream.Stream
	incarnation int64
}

// update is what the bucket says of a key.
type update struct {
	key      key
	value    []byte // nil if the key was deleted
	revision uint64
	at       time.Time // when it was written, by JetStream's clock
}

// open opens the bucket, and makes it if it isn't there.
func (b *bucket) open(ctx context.Context) (*opened, error) {
	if kv := b.kv.Load(); kv != nil {
		return kv, nil
	}
	stream, err := kvcache.OpenStream(ctx, b.cfg.NATS, b.js, jetstream.StreamConfig{
		Name: "KV_" + b.name, Description: "Millrace: the deploys of sites", Subjects: []string{"$KV." + b.name + ".>"},
		Storage: jetstream.FileStorage, Replicas: b.cfg.Replicas, MaxMsgsPerSubject: history, MaxBytes: bucketBytes,
		Discard: jetstream.DiscardNew, AllowRollup: true, DenyDelete: true,
	}, kvcache.SizeGrows)
	if err != nil {
		return nil, fmt.Errorf("open the bucket of sites: %w", err)
	}
	kv, err := b.js.KeyValue(ctx, b.name)
	if err != nil {
		return nil, fmt.Errorf("open the bucket of sites: %w", err)
	}
	out := &opened{KeyValue: kv, stream: stream, incarnation: stream.CachedInfo().Created.UnixNano()}
	b.kv.Store(out)
	return out, nil
}

// forget lets the next open look for the bucket again.
func (b *bucket) forget() { b.kv.Store(nil) }

// errStale means that a key has changed since it was read.
var errStale = errors.New("the key has changed")

// swap sets a key if its last revision is the given one; 0 if there must be none. The error is errStale if it isn't.
func (b *bucket) swap(ctx context.Context, k key, value []byte, last uint64) (uint64, error) {
	return b.swapKey(ctx, k.String(), value, last)
}

func (b *bucket) swapKey(ctx context.Context, k string, value []byte, last uint64) (uint64, error) {
	kv, err := b.open(ctx)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, bucketTime)
	defer cancel()
	revision, err := kv.Update(ctx, k, value, last)
	if err != nil {
		return 0, stale("write the record "+k, err)
	}
	return revision, nil
}

// stale returns errStale if that is what err means.
func stale(did string, err error) error {
	failure, _ := errors.AsType[*jetstream.APIError](err)
	if failure != nil && failure.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
		return errStale
	}
	return fmt.Errorf("%s: %w", did, err)
}

// put sets a key whatever it was.
func (b *bucket) put(ctx context.Context, k key, value []byte) (revision uint64, err error) {
	kv, err := b.open(ctx)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, bucketTime)
	defer cancel()
	if revision, err = kv.Put(ctx, k.String(), value); err != nil {
		return 0, fmt.Errorf("write the record %s: %w", k, err)
	}
	return revision, nil
}

// remove deletes a key if its last revision is the given one. removed is false if it isn't.
func (b *bucket) remove(ctx context.Context, k key, last uint64) (removed bool, err error) {
	kv, err := b.open(ctx)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, bucketTime)
	defer cancel()
	if err := kv.Delete(ctx, k.String(), jetstream.LastRevision(last)); err != nil {
		if err = stale("delete the record "+k.String(), err); errors.Is(err, errStale) {
			return false, nil
		}
		return false, err
	}
	return true, nil
}

// drop removes everything of a key up to a revision, also that it was deleted.
func (b *bucket) drop(ctx context.Context, k key, last uint64) error {
	kv, err := b.open(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, bucketTime)
	defer cancel()
	subject := "$KV." + b.name + "." + k.String()
	err = kv.stream.Purge(ctx, jetstream.WithPurgeSubject(subject), jetstream.WithPurgeSequence(last+1))
	if err != nil {
		return fmt.Errorf("drop the record %s: %w", k, err)
	}
	return nil
}

// get reads the last record of a key. value is nil if there is none. The bucket's leader answers, not a replica that
// may lag.
func (b *bucket) get(ctx context.Context, k key) (value []byte, revision uint64, err error) {
	return b.getKey(ctx, k.String())
}

func (b *bucket) getKey(ctx context.Context, k string) (value []byte, revision uint64, err error) {
	kv, err := b.open(ctx)
	if err != nil {
		return nil, 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, bucketTime)
	defer cancel()
	e, err := kv.Get(ctx, k)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return nil, 0, nil
	case err != nil:
		return nil, 0, fmt.Errorf("read the record %s: %w", k, err)
	}
	return e.Value(), e.Revision(), nil
}

// past returns the records of a key that the bucket still has, oldest first.
func (b *bucket) past(ctx context.Context, k key) ([]jetstream.KeyValueEntry, error) {
	kv, err := b.open(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, bucketTime)
	defer cancel()
	entries, err := kv.History(ctx, k.String())
	if err != nil && !errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, fmt.Errorf("read the history of %s: %w", k, err)
	}
	return entries, nil
}

// all reads the last record of each key that is about a site. It may lag a little behind what was written.
func (b *bucket) all(ctx context.Context) ([]update, error) {
	kv, err := b.open(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, bucketTime)
	defer cancel() // ends the watch; Stop would wait for the server
	w, err := kv.WatchAll(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the bucket of sites: %w", err)
	}
	var out []update
	for {
		select {
		case e := <-w.Updates():
			if e == nil {
				return out, nil
			}
			if u, ok := updateOf(e); ok {
				out = append(out, u)
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("read the bucket of sites: %w", ctx.Err())
		}
	}
}

// updateOf returns what an entry of the bucket says. ok is false for keys that are about no site.
func updateOf(e jetstream.KeyValueEntry) (u update, ok bool) {
	k, err := parseKey(e.Key())
	if err != nil {
		return u, false
	}
	u = update{key: k, revision: e.Revision(), at: e.Created()}
	if e.Operation() == jetstream.KeyValuePut {
		u.value = e.Value()
	}
	return u, true
}

// last returns the revision of the bucket's last record.
func (b *bucket) last(ctx context.Context) (revision uint64, incarnation int64, err error) {
	kv, err := b.open(ctx)
	if err != nil {
		return 0, 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, bucketTime)
	defer cancel()
	info, err := kv.stream.Info(ctx)
	if err != nil {
		return 0, 0, fmt.Errorf("look at the bucket of sites: %w", err)
	}
	return info.State.LastSeq, info.Created.UnixNano(), nil
}
