package kvcache

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// Some values lie in several entries, none of which is of use without the others. So they are written together or not
// at all, and read with a deadline of their own: an answer that has begun must not end because the bucket took longer
// than somebody would wait who has asked for nothing yet.

// Bounds of what is written together.
const (
	maxWriting = 64              // values at once
	writeTime  = 2 * time.Second // of one entry
	readTry    = 500 * time.Millisecond
	readPause  = 20 * time.Millisecond
)

// writing counts the values that are written together at this moment.
type writing struct{ n atomic.Int64 }

// WriteTogether writes entries into the bucket that are of use only together, one after the other in the background,
// and reports whether all of them are there: once, and perhaps before it returns. They must not change until then.
// Under pressure, when others would have to leave for them, only what was asked for again is written.
func (c *Cache) WriteTogether(entries []Entry, used bool, done func(all bool)) {
	if !c.bucket.takes(entries, used) || c.writing.n.Add(1) > maxWriting {
		done(false)
		return
	}
	if !c.begin(func() { done(c.writeTogether(entries)) }) {
		c.writing.n.Add(-1)
		done(false)
	}
}

func (c *Cache) writeTogether(entries []Entry) bool {
	defer c.writing.n.Add(-1)
	buf := encodings.Get().(*[]byte) //nolint:forcetypeassert // the pool holds nothing else
	defer encodings.Put(buf)
	for i := range entries {
		*buf = entries[i].Append((*buf)[:0])
		if c.bucket.send(c.ctx, *buf) != nil {
			return false
		}
	}
	return true
}

// takes reports whether the bucket is there, and has room for all of them.
func (b *bucket) takes(entries []Entry, used bool) bool {
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

// ErrBucket means that the bucket can't be asked.
var ErrBucket = errors.New("the bucket doesn't answer")

// Read finds an entry in the bucket as Load does, but for as long as ctx allows. It fails with ErrBucket if nobody has
// said by then whether it is there.
func (c *Cache) Read(ctx context.Context, key []byte, v *View) (found bool, err error) {
	for c.bucket.ready.Load() {
		try, cancel := context.WithTimeout(ctx, readTry)
		encoded, err := c.bucket.ask(try, key)
		cancel()
		if err == nil {
			return encoded != nil && c.bring(key, encoded, v), nil
		}
		if !pause(ctx, readPause) {
			break
		}
	}
	return false, ErrBucket
}
