package kvcache

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// Some values consist of several entries, none of which is useful without the others. They are written together or not
// at all. They are read with their own deadline, since a response that has begun must not end because the bucket takes
// longer than Patience.

// Limits of what is written together, and of Read.
const (
	maxGroupWrites = 64              // values at once
	writeTime      = 2 * time.Second // of one entry
	readTry        = 500 * time.Millisecond
	readPause      = 20 * time.Millisecond
)

// groupWrites counts the values that are being written together.
type groupWrites struct{ n atomic.Int64 }

// WriteTogether writes entries that are useful only together into the bucket, one after the other in the background. It
// calls done once, possibly before it returns, with whether all of them were written. The entries must not change until
// then. If the bucket is full, so that others would be dropped for them, it writes them only if they were used before.
func (c *Cache) WriteTogether(entries []Entry, used bool, done func(all bool)) {
	if !c.bucket.accepts(entries, used) || c.groupWrites.n.Add(1) > maxGroupWrites {
		done(false)
		return
	}
	if !c.spawn(func() { done(c.writeTogether(entries)) }) {
		c.groupWrites.n.Add(-1)
		done(false)
	}
}

func (c *Cache) writeTogether(entries []Entry) bool {
	defer c.groupWrites.n.Add(-1)
	buf := encodings.Get().(*[]byte) // the pool holds nothing else
	defer encodings.Put(buf)
	for i := range entries {
		*buf = entries[i].Append((*buf)[:0])
		if c.bucket.send(c.ctx, *buf) != nil {
			return false
		}
	}
	return true
}

// accepts reports whether the bucket is ready and has room for all entries.
func (b *bucket) accepts(entries []Entry, used bool) bool {
	total := int64(0)
	for i := range entries {
		total += int64(entryFixed + len(entries[i].Key) + len(entries[i].Value))
	}
	switch {
	case !b.ready.Load() || total > b.cfg.BucketBytes/4:
		return false
	case !used && b.size.Load()+total > b.cfg.BucketBytes/10*9:
		b.skipped.Add(uint64(len(entries)))
		return false
	}
	return true
}

// ErrBucket means that the bucket doesn't answer.
var ErrBucket = errors.New("the bucket doesn't answer")

// Read finds an entry in the bucket like Load, but waits for as long as ctx allows. It fails with ErrBucket if the
// bucket hasn't answered by then.
func (c *Cache) Read(ctx context.Context, key []byte, v *View) (found bool, err error) {
	for c.bucket.ready.Load() {
		try, cancel := context.WithTimeout(ctx, readTry)
		encoded, err := c.bucket.read(try, key)
		cancel()
		if err == nil {
			return encoded != nil && c.toMemory(key, encoded, v), nil
		}
		if !pause(ctx, readPause) {
			break
		}
	}
	return false, ErrBucket
}
