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

// chunkBody is a span of a stored body that lies in chunks. What a head has promised isn't cut by the store: the chunks
// that are in memory are held from the start, and a loader brings the others ahead of the reader, from the bucket or,
// under a strong validator, from the origin. Where there is none, all of them are there before the first is given.
type chunkBody struct {
	c     *target
	key   []byte // of the stored response
	rec   httpcache.Record
	first uint32
	skip  int   // bytes of the first chunk that aren't wanted
	left  int64 // bytes that are
	held  int64 // of the server's filling, for what is ahead of the reader
	ahead *loader

	mu    sync.Mutex // guards what follows
	views []*kvcache.View
	at    int
	over  bool
}

// holdTime bounds how long a response waits for all of its chunks.
const holdTime = 5 * time.Second

// chunks opens a span of a body. Not ok means that it can't be given to its end: then the response isn't found any
// more, and the caller fetches it.
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
	if err := b.bring(x, missing); err != nil {
		_ = b.Close() // it only gives memory back
		if !errors.Is(err, errNoRoom) {
			c.lost(b.key, rec.Nonce)
		}
		l.hit, l.gone = false, true
		return nil, false
	}
	return b, true
}

// bring begins to load what is missing. It waits for the first of it, or for all where nobody else has it. It fails
// with errNoRoom if the response could be given, but not now.
func (b *chunkBody) bring(x *exchange.Exchange, missing uint32) error {
	inBucket := b.rec.Stored.Flags.Has(httpcache.InBucket)
	mends := x.Method == http.MethodGet && b.c.condition(&b.rec) != ""
	worth := mends && few(missing, b.rec.Chunks)
	if !inBucket && !worth {
		return errChunk
	}
	ahead := int(missing)
	if mends {
		ahead = min(window, ahead)
	}
	switch size := int64(ahead) * chunkSize; {
	case b.c.shared.filling.lend(size):
		b.held = size
	case mends:
		ahead = 0 // each when it is its turn
	default:
		return errNoRoom
	}
	b.ahead = b.newLoader(x, inBucket, mends, ahead)
	b.ahead.worth = worth
	go b.ahead.run()
	if mends {
		return b.ahead.take()
	}
	timer := time.AfterFunc(holdTime, b.ahead.cancel)
	defer timer.Stop()
	for range missing {
		if err := b.ahead.take(); err != nil {
			return err
		}
	}
	return nil
}

// Next gives what is wanted of the next chunk.
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

// next gives the next chunk, and lets go of the one before.
func (b *chunkBody) next() (*kvcache.View, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.at > 0 && b.views[b.at-1] != nil {
		b.views[b.at-1].Release()
		b.views[b.at-1] = nil
	}
	switch {
	case b.over:
		return nil, exchange.ErrGone
	case b.left == 0:
		return nil, io.EOF
	case b.at == len(b.views):
		return nil, errChunk
	}
	for b.views[b.at] == nil {
		b.mu.Unlock() // Close ends the wait
		err := b.ahead.take()
		b.mu.Lock()
		switch {
		case b.over:
			return nil, exchange.ErrGone
		case err != nil:
			b.c.lost(b.key, b.rec.Nonce)
			return nil, err
		}
	}
	b.at++
	return b.views[b.at-1], nil
}

var (
	errChunk  = errors.New("a part of a stored response has left the store")
	errNoRoom = errors.New("too many responses are being brought together")
)

// Trailer gives nothing: trailer fields aren't stored.
func (b *chunkBody) Trailer() mesh.Header { return nil }

// Close gives the chunks back.
func (b *chunkBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return nil
	}
	b.over = true
	if b.ahead != nil {
		b.ahead.cancel()
		go b.ahead.drain()
	}
	if b.held > 0 {
		b.c.shared.filling.giveBack(b.held)
	}
	for i, v := range b.views {
		if v != nil {
			v.Release()
			b.views[i] = nil
		}
	}
	return nil
}

// lostFor is how long a response isn't looked for, in memory or bucket, that can't be given to its end, until it is
// fetched anew.
const lostFor = 2 * time.Second

// lost takes a response out of the store whose chunks aren't all there.
func (c *records) lost(key []byte, nonce uint64) {
	if c.holds(key, nonce) {
		c.putGone(key)
	}
}

// loader brings the chunks that aren't in memory, in their order and a few ahead of the reader.
type loader struct {
	b        *chunkBody
	ctx      context.Context //nolint:containedctx // ends with the body
	cancel   context.CancelFunc
	missing  []int // indices of views
	inBucket bool
	origin   *mender // nil if nothing says that its bytes are the same
	worth    bool    // it is asked even if the bucket has nothing
	out      chan loaded
}

// loaded is a chunk, or why there is none, which is the last word.
type loaded struct {
	i    int
	view *kvcache.View
	err  error
}

// window is how many chunks a loader is ahead of the reader, where there is room.
const window = 4

// Times of the bucket.
const (
	chunkTime       = 2 * time.Second        // that it may take for a chunk if nobody else has it
	chunkTimeMended = time.Second            // likewise with the origin at hand
	lagTime         = 300 * time.Millisecond // that a replica may be behind
)

func (b *chunkBody) newLoader(x *exchange.Exchange, inBucket, mends bool, ahead int) *loader {
	l := &loader{b: b, inBucket: inBucket, out: make(chan loaded, ahead)}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	for i, v := range b.views {
		if v == nil {
			l.missing = append(l.missing, i)
		}
	}
	if mends {
		l.origin = b.newMender(x, l.missing[len(l.missing)-1])
	}
	return l
}

// run loads until all is there, something can't be had, or nobody wants it any more.
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

// take waits for the next chunk and puts it in place.
func (l *loader) take() error {
	got, ok := <-l.out
	switch {
	case !ok:
		return errChunk
	case got.err != nil:
		return got.err
	}
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	if l.b.over {
		got.view.Release()
		return exchange.ErrGone
	}
	l.b.views[got.i] = got.view
	return nil
}

// drain lets go of what nobody takes.
func (l *loader) drain() {
	for got := range l.out {
		got.view.Release()
	}
}

// load gives a chunk from wherever it is. Somebody else may have brought it meanwhile.
func (l *loader) load(i int, first bool) (*kvcache.View, error) {
	b, v := l.b, &kvcache.View{}
	n := b.first + uint32(i) //nolint:gosec // G115: within the body
	key := ChunkKey(b.rec.Nonce, n)
	if b.c.store.Get(key, v) {
		return v, nil
	}
	if l.inBucket && !l.origin.asked() && l.fromBucket(key, v) {
		return v, nil
	}
	if l.origin == nil || (first && !l.worth) {
		return v, errChunk
	}
	data, err := l.origin.chunk(l.ctx, n, first)
	if err != nil {
		return v, err
	}
	entry := chunkOf(b.rec.Nonce, n, data)
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

// fromBucket waits for the bucket's word. What was written a moment ago may not be there yet.
func (l *loader) fromBucket(key []byte, v *kvcache.View) bool {
	most := chunkTime
	if l.origin != nil {
		most = chunkTimeMended
	}
	begun := time.Now()
	ctx, cancel := context.WithTimeout(l.ctx, most)
	defer cancel()
	for {
		found, err := l.b.c.store.Read(ctx, key, v)
		if found || err != nil || time.Since(begun) > lagTime || time.Since(l.b.rec.Stored.Received) > 10*time.Second {
			return found
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return false
		}
	}
}
