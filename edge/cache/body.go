package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"millrace/edge/exchange"
	"millrace/kvcache"
	"millrace/kvcache/httpcache"
	"millrace/mesh"
)

// chunkBody is a span of a stored body that is in chunks. Once the head is sent, the store must not cut the body short:
// the chunks in memory are held from the start, and a loader gets the others ahead of the reader, from the bucket or,
// under a strong validator, from the origin. Without a strong validator all chunks must be there before the first is
// returned.
type chunkBody struct {
	c      *target
	key    []byte // of the stored response
	rec    httpcache.Record
	first  uint32
	skip   int   // bytes of the first chunk before the span
	left   int64 // bytes of the span still to be returned
	held   int64 // bytes taken from Cache.budget for chunks that the loader holds
	loader *loader

	mu     sync.Mutex // guards what follows
	views  []*kvcache.View
	at     int
	closed bool
}

// loadTimeout bounds how long a response waits until all of its chunks are there.
const loadTimeout = 5 * time.Second

// chunks opens a span of a body. If it can't be served to its end, ok is false, l.hit is cleared, and the caller must
// fetch the response.
func (c *target) chunks(x *exchange.Exchange, l *lookup, s httpcache.Span) (body mesh.Body, ok bool) {
	rec := &l.rec
	first, last := uint32(s.First/chunkSize), uint32(s.Last/chunkSize) //nolint:gosec // G115: within the body
	b := &chunkBody{c: c, key: bytes.Clone(l.key), rec: *rec, first: first, left: s.Len()}
	b.skip = int(s.First % chunkSize)
	b.views = make([]*kvcache.View, last-first+1)
	missing := uint32(0)
	for i := range b.views {
		v := &kvcache.View{}
		if c.store.Get(ChunkKey(rec.Nonce, b.first+uint32(i)), v) {
			b.views[i] = v
		} else {
			missing++
		}
	}
	if missing == 0 {
		return b, true
	}
	if err := b.startLoading(x, missing); err != nil {
		_ = b.Close() // Close only returns memory
		if !errors.Is(err, errBudget) {
			c.dropIncomplete(b.key, rec.Nonce)
		}
		l.hit, l.discarded = false, true
		return nil, false
	}
	return b, true
}

// startLoading starts a loader for the missing chunks. It waits for the first of them, or, if only the bucket has them,
// for all. It fails with errBudget if the response could be served but there is no memory for it now.
func (b *chunkBody) startLoading(x *exchange.Exchange, missing uint32) error {
	inBucket := b.rec.Stored.Flags.Has(httpcache.InBucket)
	hasOrigin := x.Method == http.MethodGet && b.c.rangeCondition(&b.rec) != ""
	originFirst := hasOrigin && fewMissing(missing, b.rec.Chunks)
	if !inBucket && !originFirst {
		return errChunk
	}
	ahead := int(missing)
	if hasOrigin {
		ahead = min(readAhead, ahead)
	}
	switch size := int64(ahead) * chunkSize; {
	case b.c.shared.budget.takeForReader(size):
		b.held = size
	case hasOrigin:
		ahead = 0 // the loader gets each chunk when the reader asks for it
	default:
		return errBudget
	}
	b.loader = b.newLoader(x, inBucket, hasOrigin, ahead)
	b.loader.originFirst = originFirst
	go b.loader.run()
	if hasOrigin {
		return b.loader.receive()
	}
	timer := time.AfterFunc(loadTimeout, b.loader.cancel)
	defer timer.Stop()
	for range missing {
		if err := b.loader.receive(); err != nil {
			return err
		}
	}
	return nil
}

// Next returns the part of the next chunk that is in the span.
func (b *chunkBody) Next() (mesh.Piece, error) {
	v, err := b.next()
	if v == nil {
		return mesh.Piece{}, err
	}
	data := v.Value
	if b.at == 1 {
		data = data[min(b.skip, len(data)):]
	}
	data = data[:min(int64(len(data)), b.left)]
	if b.left -= int64(len(data)); len(data) == 0 {
		return mesh.Piece{}, errChunk
	}
	return mesh.Piece{Data: data}, nil
}

// next returns the next chunk, and releases the one before.
func (b *chunkBody) next() (*kvcache.View, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.at > 0 && b.views[b.at-1] != nil {
		b.views[b.at-1].Release()
		b.views[b.at-1] = nil
	}
	switch {
	case b.closed:
		return nil, exchange.ErrGone
	case b.left == 0:
		return nil, io.EOF
	case b.at == len(b.views):
		return nil, errChunk
	}
	for b.views[b.at] == nil {
		b.mu.Unlock() // Close cancels the loader, which ends the wait
		err := b.loader.receive()
		b.mu.Lock()
		switch {
		case b.closed:
			return nil, exchange.ErrGone
		case err != nil:
			b.c.dropIncomplete(b.key, b.rec.Nonce)
			return nil, err
		}
	}
	b.at++
	return b.views[b.at-1], nil
}

var (
	errChunk  = errors.New("a part of a stored response has left the store")
	errBudget = errors.New("too many responses are being brought together")
)

// Trailer returns nil: trailer fields aren't stored.
func (b *chunkBody) Trailer() mesh.Header { return nil }

// Close releases the chunks and stops the loader.
func (b *chunkBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	if b.loader != nil {
		b.loader.cancel()
		go b.loader.drain()
	}
	if b.held > 0 {
		b.c.shared.budget.giveFromReader(b.held)
	}
	for i, v := range b.views {
		if v != nil {
			v.Release()
			b.views[i] = nil
		}
	}
	return nil
}

// discardedFor is how long a response that can't be served to its end isn't looked up in memory or bucket, unless it is
// fetched again before.
const discardedFor = 2 * time.Second

// dropIncomplete discards a response of which a chunk can't be had, unless its key has another response by now.
func (c *records) dropIncomplete(key []byte, nonce uint64) {
	if c.holds(key, nonce) {
		c.discard(key)
	}
}

// loader gets the chunks that aren't in memory, in order and a few ahead of the reader.
type loader struct {
	b           *chunkBody
	ctx         context.Context //nolint:containedctx // canceled when the body is closed
	cancel      context.CancelFunc
	missing     []int // indices of views
	inBucket    bool
	origin      *originChunks // nil without a strong validator
	originFirst bool          // the origin may be asked for the first missing chunk too
	out         chan loaded
}

// loaded is a chunk, or the error that ends the loading.
type loaded struct {
	i    int
	view *kvcache.View
	err  error
}

// readAhead is how many chunks a loader is ahead of the reader, if there is memory for them.
const readAhead = 4

// Timeouts of the bucket.
const (
	bucketTimeout           = 2 * time.Second        // for one chunk if only the bucket has it
	bucketTimeoutWithOrigin = time.Second            // for one chunk if the origin can be asked instead
	replicaLag              = 300 * time.Millisecond // how far a replica may be behind
)

func (b *chunkBody) newLoader(x *exchange.Exchange, inBucket, hasOrigin bool, ahead int) *loader {
	l := &loader{b: b, inBucket: inBucket, out: make(chan loaded, ahead)}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	for i, v := range b.views {
		if v == nil {
			l.missing = append(l.missing, i)
		}
	}
	if hasOrigin {
		l.origin = b.newOriginChunks(x, l.missing[len(l.missing)-1])
	}
	return l
}

// run loads chunks until all are there, one can't be had, or the body is closed. It closes l.out.
func (l *loader) run() {
	defer close(l.out)
	defer func() {
		if l.origin != nil {
			l.origin.close()
		}
		if p := recover(); p != nil {
			l.b.c.shared.cfg.Log.Error("loading for the cache panicked", "panic", fmt.Sprint(p), "stack",
				string(debug.Stack()))
		}
	}()
	for n, i := range l.missing {
		v, err := l.load(i, n == 0)
		select {
		case l.out <- loaded{i, v, err}:
		case <-l.ctx.Done():
			v.Release()
			return
		}
		if err != nil {
			return
		}
	}
}

// receive waits for the next chunk and stores it in b.views.
func (l *loader) receive() error {
	got, ok := <-l.out
	switch {
	case !ok:
		return errChunk
	case got.err != nil:
		return got.err
	}
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	if l.b.closed {
		got.view.Release()
		return exchange.ErrGone
	}
	l.b.views[got.i] = got.view
	return nil
}

// drain releases the chunks that nobody receives.
func (l *loader) drain() {
	for got := range l.out {
		got.view.Release()
	}
}

// load returns a chunk from memory, bucket or origin. It may have come to memory meanwhile.
func (l *loader) load(i int, first bool) (*kvcache.View, error) {
	b, v := l.b, &kvcache.View{}
	n := b.first + uint32(i) //nolint:gosec // G115: within the body
	key := ChunkKey(b.rec.Nonce, n)
	if b.c.store.Get(key, v) {
		return v, nil
	}
	if l.inBucket && !l.origin.reading() && l.fromBucket(key, v) {
		return v, nil
	}
	if l.origin == nil || (first && !l.originFirst) {
		return v, errChunk
	}
	data, err := l.origin.chunk(l.ctx, n, first)
	if err != nil {
		return v, err
	}
	entry := chunkEntry(b.rec.Nonce, n, data)
	tiers := kvcache.MemoryOnly
	if l.inBucket {
		tiers = kvcache.BothAlways
	}
	b.c.store.Put(&entry, tiers)
	if !b.c.store.Get(key, v) {
		v.Value = data
	}
	return v, nil
}

// fromBucket reads a chunk from the bucket. A replica may not have it yet, so for a response received within the last
// ten seconds fromBucket tries again until replicaLag has passed.
func (l *loader) fromBucket(key []byte, v *kvcache.View) bool {
	timeout := bucketTimeout
	if l.origin != nil {
		timeout = bucketTimeoutWithOrigin
	}
	begun := time.Now()
	ctx, cancel := context.WithTimeout(l.ctx, timeout)
	defer cancel()
	for {
		found, err := l.b.c.store.Read(ctx, key, v)
		if found || err != nil || time.Since(begun) > replicaLag ||
			time.Since(l.b.rec.Stored.Received) > 10*time.Second {
			return found
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return false
		}
	}
}
