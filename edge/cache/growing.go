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

// growing is a response that is being collected to be stored, while any number of clients already follow it. fill
// writes it, and readers read what is there and wait for more.
type growing struct {
	c      *writing
	x      *exchange.Exchange
	l      *lookup // its keys only: the lookup itself belongs to the fetch
	a      admitted
	status httpcache.Status
	code   int   // status
	aged   bool  // the origin gave its age
	length int64 // that was announced, or -1
	tiers  kvcache.Tiers
	nonce  uint64 // names the chunks
	born   time.Time

	held int64 // of the server's filling: all of it, or of unknown length what is there. filling.mu guards it
	out  bool  // its room was wanted for others; likewise
	come atomic.Int64

	mu      sync.Mutex // guards what follows
	chunks  [][]byte   // chunkSize each, but for the last
	have    int64
	err     error         // io.EOF when it is whole
	changed chan struct{} // closed and replaced when there is more
}

// grow makes room for a response whose body streams, or gives nil if there is none.
func (c *writing) grow(x *exchange.Exchange, l *lookup, a admitted, resp *mesh.Response,
	status httpcache.Status,
) *growing {
	held := max(resp.Length, 0)
	if !c.shared.filling.take(held) {
		return nil
	}
	status.Stored = true
	keys := &lookup{c: &c.records, primary: l.primary, key: l.key, hit: l.hit, gone: l.gone, vary: l.vary}
	return &growing{
		c: c, x: x, l: keys, a: a, status: status, code: resp.Status, aged: resp.Header.Has("Age"), length: resp.Length,
		held: held, tiers: kvcache.BothTiers, nonce: newNonce(), changed: make(chan struct{}),
		born: time.Now(),
	}
}

// fill reads the body to its end and stores it.
func (g *growing) fill(body mesh.Body) {
	defer body.Close()
	for {
		p, err := body.Next()
		if err != nil {
			g.end(err)
			return
		}
		if !g.add(p.Data) {
			g.end(errLength)
			return
		}
	}
}

// pace is how many bytes have come in a second.
func (g *growing) pace(now time.Time) float64 {
	return float64(g.come.Load()) / now.Sub(g.born).Seconds()
}

// abandon drops a response whose room is another's by now. Nobody reads it but the one whose copy it is.
func (g *growing) abandon() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.chunks = nil
	if g.err == nil {
		g.err = errLength
		close(g.changed)
	}
}

// add takes a piece in. False means that the body is longer than it may be, or isn't stored any more.
func (g *growing) add(p []byte) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err != nil {
		return false
	}
	g.come.Add(int64(len(p)))
	if g.have += int64(len(p)); (g.length >= 0 && g.have > g.length) || g.have > int64(g.c.cfg.MaxObject) {
		return false
	}
	for len(p) > 0 {
		last := len(g.chunks) - 1
		if last < 0 || len(g.chunks[last]) == chunkSize {
			size := chunkSize
			if g.length >= 0 {
				size = int(min(chunkSize, g.length-int64(len(g.chunks))*chunkSize))
			} else if !g.c.shared.filling.hold(g, chunkSize) {
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

// end stores a body that is whole, and tells those who follow.
func (g *growing) end(err error) {
	if errors.Is(err, io.EOF) && g.length >= 0 && g.have != g.length {
		err = errLength
	}
	if errors.Is(err, io.EOF) {
		if g.c.shared.filling.settle(g) {
			g.store()
		} else {
			err = errLength
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err == nil {
		g.err = err
		g.c.shared.filling.end(g)
		close(g.changed)
	}
}

// store keeps what has grown. A large body's room is given back when the bucket has it as well.
func (g *growing) store() {
	rec := &httpcache.Record{
		Kind: httpcache.KindResponse, Stored: g.a.stored,
		Head: httpcache.AppendHead(nil, g.a.header), Length: g.have,
	}
	if g.have <= chunkSize {
		for _, chunk := range g.chunks {
			rec.Body = append(rec.Body, chunk...)
		}
		g.c.putRecord(g.x, g.l, g.a, rec, g.tiers)
		return
	}
	rec.Nonce = g.nonce
	held := g.c.shared.filling.inherit(g)
	g.c.putLarge(g.x, g.l, g.a, rec, g.chunks, g.tiers, func() { g.c.shared.filling.give(held) })
}

// fits reports whether the response is good for another request than the one that it was fetched for.
func (g *growing) fits(c *writing, x *exchange.Exchange) bool {
	flags := g.a.stored.Flags
	if g.c.route.ID != c.route.ID || flags.Has(httpcache.NoCache) || g.a.stored.Remaining(time.Now()) <= 0 ||
		x.Method != g.x.Method || crosses(x, flags) {
		return false
	}
	mine := c.appendVariant(nil, g.a.vary, x)
	if string(mine) != string(c.appendVariant(nil, g.a.vary, g.x)) {
		return false
	}
	if g.a.stored.Flags.Has(httpcache.Defaulted) && c.personal(x) != "" {
		return false
	}
	scope := c.scope(g.l.primary, g.a.header, g.a.epoch)
	return c.store.Leased() && c.store.Judge(&scope, keyURL(g.l.primary)) == kvcache.Valid
}

// follow answers with a response that is still growing.
func (c *serving) follow(x *exchange.Exchange, g *growing, waited bool) *mesh.Response {
	status := g.status
	status.Collapsed = waited
	h := append(mesh.Header(nil), g.a.header...)
	if waited || g.aged { // it wasn't made for this request (RFC 9111 §5.1)
		h.Add("Age", strconv.FormatInt(int64(g.a.stored.Age(time.Now()).Seconds()), 10))
	}
	if httpcache.NotModified(&httpcache.Request{Method: x.Method, Header: x.Header}, g.code, h, time.Now()) {
		resp := &mesh.Response{Status: 304, Header: httpcache.NotModifiedHeader(h)}
		c.tell(x, resp, status)
		return resp
	}
	ctx, cancel := context.WithCancel(context.Background())
	resp := &mesh.Response{
		Status: g.code, Header: h, Length: g.length,
		Stream: &follower{g: g, ctx: ctx, cancel: cancel},
	}
	c.tell(x, resp, status)
	return resp
}

// follower reads a growing response at its own client's pace.
type follower struct {
	g      *growing
	ctx    context.Context //nolint:containedctx // ends with the reader
	cancel context.CancelFunc
	at     int64
}

// Next waits for more than was read.
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
			return mesh.Piece{}, err //nolint:wrapcheck // io.EOF must stay itself
		}
		select {
		case <-changed:
		case <-f.ctx.Done():
			return mesh.Piece{}, exchange.ErrGone
		}
	}
}

// from gives what is there of the chunk that the position lies in. What was written once never changes. The caller
// holds mu.
func (g *growing) from(at int64) []byte {
	i := int(at / chunkSize)
	if i >= len(g.chunks) {
		return nil
	}
	return g.chunks[i][at%chunkSize:]
}

// Trailer gives nothing: trailer fields aren't stored.
func (f *follower) Trailer() mesh.Header { return nil }

// Close ends the reading; the response goes on growing.
func (f *follower) Close() error {
	f.cancel()
	return nil
}

// tee is a body of unknown length on its way to its one client, of which a copy is stored if it turns out small enough,
// and soon enough to have an end.
type tee struct {
	mesh.Body

	g     *growing
	until time.Time // when it must have ended; zero if the origin says that it may be kept
	over  bool      // nothing is copied any more
}

// copies gives the response to its one client, and lets a copy grow.
func (g *growing) copies(resp *mesh.Response) *tee {
	t := &tee{Body: resp.Stream, g: g}
	g.c.shared.filling.follows(g)
	if g.a.stored.Flags.Has(httpcache.Unsaid) {
		t.until = time.Now().Add(g.c.shared.filling.endsWithin)
	}
	return t
}

// Next passes a piece on and keeps a copy.
func (t *tee) Next() (mesh.Piece, error) {
	p, err := t.Body.Next()
	switch {
	case t.over:
	case !t.until.IsZero() && time.Now().After(t.until):
		t.over = true
		t.g.end(errLength)
	case err != nil:
		t.over = true
		t.g.end(err)
	case !t.g.add(p.Data):
		t.over = true
		t.g.end(errLength)
	}
	return p, err //nolint:wrapcheck // io.EOF must stay itself
}

// drain reads a body that only the store wants, as long as it does.
func drain(body mesh.Body) {
	for t, ok := body.(*tee); ok && !t.over; {
		_, _ = t.Next() // an error is its end
	}
}

// Close gives the room back.
func (t *tee) Close() error {
	t.g.end(exchange.ErrGone)
	return t.Body.Close() //nolint:wrapcheck // a wrapped body's errors are its own
}
