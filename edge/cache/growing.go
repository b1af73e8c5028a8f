package cache

import (
	"context"
	"errors"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"millrace/edge/exchange"
	"millrace/kvcache"
	"millrace/kvcache/httpcache"
	"millrace/mesh"
)

var errLength = errors.New("the body is shorter or longer than was announced, or than may be stored")

// growing is a response that is being collected to be stored while any number of clients read it. fill writes it;
// followers read what is there and wait for more.
type growing struct {
	c       *writing
	x       *exchange.Exchange
	l       *lookup // keys only: the fetch holds the lookup itself
	a       admitted
	status  httpcache.Status
	code    int   // of the response
	hasAge  bool  // the origin sent an Age
	length  int64 // as stated by the origin, or -1
	tiers   kvcache.Tiers
	nonce   uint64 // part of the keys of the chunks
	started time.Time

	// held is the number of bytes taken from Cache.budget: the stated length, or what has arrived if that isn't known.
	// evicted means that they were given to others. budget.mu guards both.
	held     int64
	evicted  bool
	received atomic.Int64 // bytes of the body

	mu      sync.Mutex // guards what follows
	chunks  [][]byte   // of chunkSize each, except the last
	size    int64
	err     error         // io.EOF when the body is complete
	changed chan struct{} // closed and replaced when there is more to read
}

// grow takes memory for a response whose body streams. It returns nil if the budget has too little.
func (c *writing) grow(x *exchange.Exchange, l *lookup, a admitted, resp *mesh.Response,
	status httpcache.Status,
) *growing {
	held := max(resp.Length, 0)
	if !c.shared.budget.take(held) {
		return nil
	}
	status.Stored = true
	keys := &lookup{c: &c.records, primary: l.primary, key: l.key, hit: l.hit, discarded: l.discarded, vary: l.vary}
	return &growing{
		c: c, x: x, l: keys, a: a, status: status, code: resp.Status, hasAge: resp.Header.Has("Age"),
		length: resp.Length, held: held, tiers: kvcache.BothTiers, nonce: newNonce(), changed: make(chan struct{}),
		started: time.Now(),
	}
}

// fill reads the body to its end and stores it.
func (g *growing) fill(body mesh.Body) {
	defer body.Close()
	for {
		p, err := body.Next()
		if err != nil {
			g.finish(err)
			return
		}
		if !g.add(p.Data) {
			g.finish(errLength)
			return
		}
	}
}

// rate returns how many bytes a second have arrived.
func (g *growing) rate(now time.Time) float64 {
	return float64(g.received.Load()) / now.Sub(g.started).Seconds()
}

// abandon drops a response whose bytes in the budget were given to another. Only copies are abandoned: see tee. The
// client of a copy reads the original.
func (g *growing) abandon() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.chunks = nil
	if g.err == nil {
		g.err = errLength
		close(g.changed)
	}
}

// add appends a piece. It returns false if the body is longer than it may be, or isn't being stored anymore.
func (g *growing) add(p []byte) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err != nil {
		return false
	}
	g.received.Add(int64(len(p)))
	if g.size += int64(len(p)); (g.length >= 0 && g.size > g.length) || g.size > int64(g.c.cfg.MaxObject) {
		return false
	}
	for len(p) > 0 {
		last := len(g.chunks) - 1
		if last < 0 || len(g.chunks[last]) == chunkSize {
			size := chunkSize
			if g.length >= 0 {
				size = int(min(chunkSize, g.length-int64(len(g.chunks))*chunkSize))
			} else if !g.c.shared.budget.extend(g, chunkSize) {
				return false
			}
			g.chunks = append(g.chunks, make([]byte, 0, size))
			last++
		}
		n := min(len(p), chunkSize-len(g.chunks[last]))
		g.chunks[last] = append(g.chunks[last], p[:n]...)
		p = p[n:]
	}
	close(g.changed)
	g.changed = make(chan struct{})
	return true
}

// finish stores a body that is complete, and wakes the followers. err is io.EOF or why the body broke off.
func (g *growing) finish(err error) {
	if errors.Is(err, io.EOF) && g.length >= 0 && g.size != g.length {
		err = errLength
	}
	if errors.Is(err, io.EOF) {
		if g.c.shared.budget.complete(g) {
			g.store()
		} else {
			err = errLength
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err == nil {
		g.err = err
		g.c.shared.budget.end(g)
		close(g.changed)
	}
}

// store stores the complete response. A large body's memory counts until the bucket has the body too.
func (g *growing) store() {
	rec := &httpcache.Record{
		Kind: httpcache.KindResponse, Stored: g.a.stored,
		Head: httpcache.AppendHead(nil, g.a.header), Length: g.size,
	}
	if g.size <= chunkSize {
		for _, chunk := range g.chunks {
			rec.Body = append(rec.Body, chunk...)
		}
		g.c.putRecord(g.x, g.l, g.a, rec, g.tiers)
		return
	}
	rec.Nonce = g.nonce
	held := g.c.shared.budget.transfer(g)
	g.c.putLarge(g.x, g.l, g.a, rec, g.chunks, g.tiers, func() { g.c.shared.budget.give(held) })
}

// usableFor reports whether another request than that of the fetch may be answered with the response.
func (g *growing) usableFor(c *writing, x *exchange.Exchange) bool {
	flags := g.a.stored.Flags
	if g.c.route.ID != c.route.ID || flags.Has(httpcache.NoCache) || g.a.stored.Remaining(time.Now()) <= 0 ||
		x.Method != g.x.Method || needsCORS(x, flags) {
		return false
	}
	variant := c.appendVariant(nil, g.a.vary, x)
	if string(variant) != string(c.appendVariant(nil, g.a.vary, g.x)) {
		return false
	}
	if g.a.stored.Flags.Has(httpcache.Defaulted) && c.personal(x) != "" {
		return false
	}
	scope := c.scope(g.l.primary, g.a.header, g.a.epoch)
	return c.store.Leased() && c.store.Judge(&scope, keyURL(g.l.primary)) == kvcache.Valid
}

// follow answers with a response that is still being collected.
func (c *serving) follow(x *exchange.Exchange, g *growing, waited bool) *mesh.Response {
	status := g.status
	status.Collapsed = waited
	h := append(mesh.Header(nil), g.a.header...)
	if waited || g.hasAge { // it wasn't generated for this request (RFC 9111 §5.1)
		h.Add("Age", strconv.FormatInt(int64(g.a.stored.Age(time.Now()).Seconds()), 10))
	}
	if httpcache.NotModified(&httpcache.Request{Method: x.Method, Header: x.Header}, g.code, h, time.Now()) {
		resp := &mesh.Response{Status: 304, Header: httpcache.NotModifiedHeader(h)}
		c.writeStatus(x, resp, status)
		return resp
	}
	ctx, cancel := context.WithCancel(context.Background())
	resp := &mesh.Response{
		Status: g.code, Header: h, Length: g.length,
		Stream: &follower{g: g, ctx: ctx, cancel: cancel},
	}
	c.writeStatus(x, resp, status)
	return resp
}

// follower reads a growing response at the pace of its client.
type follower struct {
	g      *growing
	ctx    context.Context //nolint:containedctx // canceled when the reader closes the body
	cancel context.CancelFunc
	at     int64
}

// Next waits for more bytes than were read before.
func (f *follower) Next() (mesh.Piece, error) {
	for {
		f.g.mu.Lock()
		data, err, changed := f.g.from(f.at), f.g.err, f.g.changed
		f.g.mu.Unlock()
		switch {
		case len(data) > 0:
			f.at += int64(len(data))
			return mesh.Piece{Data: data}, nil
		case err != nil:
			return mesh.Piece{}, err // not wrapped: callers compare it with io.EOF
		}
		select {
		case <-changed:
		case <-f.ctx.Done():
			return mesh.Piece{}, exchange.ErrGone
		}
	}
}

// from returns the bytes that are there of the chunk in which position at lies. Bytes never change once written. The
// caller holds mu.
func (g *growing) from(at int64) []byte {
	i := int(at / chunkSize)
	if i >= len(g.chunks) {
		return nil
	}
	return g.chunks[i][at%chunkSize:]
}

// Trailer returns nil: trailer fields aren't stored.
func (f *follower) Trailer() mesh.Header { return nil }

// Close ends the reading. The response is still collected.
func (f *follower) Close() error {
	f.cancel()
	return nil
}

// tee passes a body of unknown length to its one client and collects a copy. The copy is stored if it is small enough
// and ends soon enough.
type tee struct {
	mesh.Body

	g        *growing
	deadline time.Time // when the body must have ended to be stored; zero if the origin named its freshness
	stopped  bool      // nothing is copied anymore
}

// teeTo returns the response's body for its one client, and collects a copy.
func (g *growing) teeTo(resp *mesh.Response) *tee {
	t := &tee{Body: resp.Stream, g: g}
	g.c.shared.budget.markClientPaced(g)
	if g.a.stored.Flags.Has(httpcache.Unsaid) {
		t.deadline = time.Now().Add(g.c.shared.budget.endsWithin)
	}
	return t
}

// Next returns the next piece, and copies it.
func (t *tee) Next() (mesh.Piece, error) {
	p, err := t.Body.Next()
	switch {
	case t.stopped:
	case !t.deadline.IsZero() && time.Now().After(t.deadline):
		t.stopped = true
		t.g.finish(errLength)
	case err != nil:
		t.stopped = true
		t.g.finish(err)
	case !t.g.add(p.Data):
		t.stopped = true
		t.g.finish(errLength)
	}
	return p, err // not wrapped: callers compare it with io.EOF
}

// drain reads a body that only the store wants, for as long as it is copied.
func drain(body mesh.Body) {
	for t, ok := body.(*tee); ok && !t.stopped; {
		_, _ = t.Next() // an error sets stopped
	}
}

// Close ends the copy. A body that isn't complete isn't stored.
func (t *tee) Close() error {
	t.g.finish(exchange.ErrGone)
	return t.Body.Close()
}
