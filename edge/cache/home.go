package cache

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"millrace/edge/exchange"
	"millrace/kvcache"
	"millrace/kvcache/httpcache"
	"millrace/mesh"
	"millrace/node/http1"
)

// A node that misses a key asks the key's home, which fetches it once for all. Both are nodes of one mesh and speak on
// a subject of their own: the request is the client's, its Route says in which role; the reply is an entry of the
// store, or the origin's response where that is for this client only.

// Peers tells which nodes fetch for one another.
type Peers interface {
	// Alive lists the ids of the nodes that are there, this one included.
	Alive() []string
	// Seen is when a node was heard last.
	Seen(node string) time.Time
}

// homePatience is how long a home may take to say that it has heard the request, unless it is slow rather than stopped:
// then it was seen by its heartbeats within homeSilent, and may take as long as anybody waits for another's fetch.
// homeIgnored is how long one that didn't isn't asked again.
const (
	homePatience = time.Second
	homeSilent   = 2500 * time.Millisecond
	homeIgnored  = 5 * time.Second
)

// Fields of a home's reply.
const (
	fieldEntry = "X-Entry"        // stored, pass or elsewhere
	fieldPlain = "X-Entry-Status" // Cache-Status of the fetch
)

// unresponsive are the homes that didn't answer lately.
type unresponsive struct{ until sync.Map }

func (s *unresponsive) add(node string) { s.until.Store(node, time.Now().Add(homeIgnored)) }

func (s *unresponsive) has(node string) bool {
	until, ok := s.until.Load(node)
	if !ok {
		return false
	}
	if time.Now().After(until.(time.Time)) { //nolint:forcetypeassert // add stores nothing else
		s.until.Delete(node)
		return false
	}
	return true
}

// askHome lets the key's home fetch it. Not ok means that this node must do so itself.
func (c *fetcher) askHome(ctx context.Context, x *exchange.Exchange, l *lookup, grows func(*growing)) (result, bool) {
	if c.shared.cfg.Peers == nil || c.part {
		return nil, false
	}
	home := kvcache.Home(l.primary, c.shared.cfg.Peers.Alive())
	if home == "" || home == c.shared.cfg.Node || c.shared.unresponsive.has(home) {
		return nil, false
	}
	resp := c.callHome(ctx, x, home)
	if resp == nil {
		return nil, false
	}
	switch resp.Header.Get(fieldEntry) {
	case "stored":
		return c.fromHome(ctx, x, l, resp, grows)
	case "pass":
		c.stats.home.Add(1)
		detail := resp.Header.Get(fieldPlain)
		resp.Header.Delete(func(f mesh.Field) bool { return http1.HasPrefixFold(f.Name, "x-entry") })
		if resp.Status < 500 {
			c.putPass(l, httpcache.Reason(detail))
		}
		return ownResult{resp, httpcache.Status{Fwd: l.fwd(), Detail: detail}}, true
	}
	exchange.CloseBody(resp)
	return nil, false
}

// callHome asks, and gives up on a home that doesn't say soon that it has heard. Nil means that there is no answer to
// use.
func (c *fetcher) callHome(ctx context.Context, x *exchange.Exchange, home string) *mesh.Response {
	ctx, cancel := context.WithCancel(ctx)
	var heard atomic.Bool
	asked := time.Now()
	var patience *time.Timer
	patience = time.AfterFunc(time.Hour, func() {
		switch {
		case heard.Load():
		case time.Since(asked) < maxWait(x) && time.Since(c.shared.cfg.Peers.Seen(home)) < homeSilent:
			patience.Reset(homePatience / 2)
		default:
			c.shared.unresponsive.add(home)
			cancel()
		}
	})
	patience.Reset(homePatience)
	defer patience.Stop()
	header := append(mesh.Header(nil), x.Header...)
	httpcache.Unconditional(&header)
	resp, err := c.shared.cfg.Mesh.Do(ctx, c.shared.cfg.Mesh.Node("cache", home), &mesh.Request{
		Method: x.Method, Target: x.Path + x.Query, Host: x.Host, Header: header, Body: x.Body,
		Deadline: time.Now().Add(x.Timeout()),
		Interim:  func(int, mesh.Header) { heard.Store(true) }, Route: c.homeCall(x).String(),
	})
	heard.Store(true)
	if err != nil {
		cancel()
		return nil
	}
	if resp.Stream == nil {
		cancel()
	} else {
		resp.Stream = &owned{Body: resp.Stream, end: cancel}
	}
	return resp
}

// fromHome takes an entry over from its home.
func (c *fetcher) fromHome(
	ctx context.Context, x *exchange.Exchange, l *lookup, resp *mesh.Response, grows func(*growing),
) (result, bool) {
	body := io.Reader(bytes.NewReader(resp.Body))
	if resp.Stream != nil {
		r := mesh.NewReader(resp.Stream)
		defer r.Close()
		body = r
	}
	var entry kvcache.Entry
	var rec httpcache.Record
	if readEntry(body, &entry) != nil || rec.Decode(entry.Value) != nil ||
		!strings.HasPrefix(string(entry.Key), string(l.primary)) {
		return nil, false
	}
	if c.store.Judge(&entry.Scope, keyURL(l.primary)) == kvcache.Invalid {
		return nil, false // the home knows less of purges than this node
	}
	c.stats.home.Add(1)
	header := rec.Header()
	a := admitted{stored: rec.Stored, header: header, vary: varyOf(header), epoch: entry.Scope.Epoch}
	status := httpcache.Status{Fwd: l.fwd(), Detail: "home", Stored: true}
	rec.Chunks = 0
	if rec.Length > chunkSize {
		g := c.grow(x, l, a, &mesh.Response{Status: rec.Stored.Status, Length: rec.Length}, status)
		if g == nil {
			return nil, false
		}
		g.tiers = kvcache.MemoryOnly // the bucket has it from its home
		if rec.Nonce != 0 {          // under this name
			g.nonce = rec.Nonce
		}
		grows(g)
		g.fill(c.resumed(ctx, x, mesh.NewBody(body), header, rec.Length))
		return nil, true
	}
	whole, err := io.ReadAll(body)
	if err != nil || int64(len(whole)) != rec.Length {
		return nil, false
	}
	rec.Body = whole
	c.putRecord(x, l, a, &rec, kvcache.MemoryOnly)
	return storedResult{status: status}, true
}

// readEntry reads the entry without its body that a home's reply begins with.
func readEntry(r io.Reader, e *kvcache.Entry) error {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return err //nolint:wrapcheck // the caller goes on without
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > 1<<20 {
		return errEntryHead
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return err //nolint:wrapcheck // see above
	}
	return e.Decode(b) //nolint:wrapcheck // see above
}

var errEntryHead = errors.New("the head of an entry is too large")

// Fetch answers another node's request to fetch for it.
func (s *Cache) Fetch(ctx context.Context, req *mesh.Request) (*mesh.Response, error) {
	req.Interim(http.StatusProcessing, nil)
	x, c := s.homeExchange(req)
	if c == nil || !c.store.Leased() {
		return elsewhere(), nil
	}
	l := c.look(x)
	defer l.release()
	if resp := c.entryReply(x, l); resp != nil {
		return resp, nil
	}
	flight, g, leads := c.join(x, l)
	if g != nil {
		return c.growingReply(g), nil
	}
	var out result
	ok := true
	if leads {
		mine := make(chan result, 1)
		own := context.Background()
		go c.lead(own, flight, detach(x), l.detach(), mine) //nolint:gosec // G118: it outlives its client
		select {
		case out = <-mine:
		case <-ctx.Done():
			go func() { exchange.CloseBody(responseOf(<-mine)) }() // the fetch goes on, but for a body of this client's
			return nil, exchange.ErrGone
		}
	} else {
		out, ok = flight.Wait(ctx, maxWait(x))
	}
	if !ok {
		return elsewhere(), nil
	}
	return c.homeReply(x, l, out, !leads)
}

// elsewhere tells a node to fetch for itself.
func elsewhere() *mesh.Response {
	return &mesh.Response{
		Status: http.StatusMisdirectedRequest,
		Header: mesh.Header{{Name: fieldEntry, Value: "elsewhere"}},
	}
}

// entryReply answers with a stored response that is good enough, or nil.
func (c *fetcher) entryReply(x *exchange.Exchange, l *lookup) *mesh.Response {
	if !l.hit || l.use(x) != httpcache.UseFresh || !l.newer(x) {
		return nil
	}
	return c.entryOf(x, l)
}

// entryOf writes a stored response as the reply to another node.
func (c *fetcher) entryOf(x *exchange.Exchange, l *lookup) *mesh.Response {
	rec := &l.rec
	head := *rec
	head.Body, head.Chunks = nil, 1 // without its body it would be malformed
	expires := time.Now().Add(rec.Stored.Keep())
	entry := kvcache.Entry{Key: l.key, Value: head.Append(nil), Expires: expires, Scope: l.view.Scope}
	b := entry.Append(make([]byte, 4))
	binary.BigEndian.PutUint32(b, uint32(len(b)-4)) //nolint:gosec // G115: a head
	resp := &mesh.Response{Status: http.StatusOK, Header: mesh.Header{{Name: fieldEntry, Value: "stored"}}}
	if rec.Chunks == 0 {
		resp.Body = append(b, rec.Body...)
		return resp
	}
	body, ok := c.chunks(x, l, httpcache.Span{First: 0, Last: rec.Length - 1})
	if !ok {
		return nil
	}
	resp.Stream, resp.Length = &prefixed{Body: body, prefix: b}, int64(len(b))+rec.Length
	return resp
}

// prefixed is a body behind a few bytes.
type prefixed struct {
	mesh.Body

	prefix []byte
}

func (p *prefixed) Next() (mesh.Piece, error) {
	if p.prefix == nil {
		return p.Body.Next() //nolint:wrapcheck // io.EOF must stay itself
	}
	piece := mesh.Piece{Data: p.prefix}
	p.prefix = nil
	return piece, nil
}

// homeReply answers with what a fetch has brought.
func (c *fetcher) homeReply(x *exchange.Exchange, before *lookup, out result, waited bool) (*mesh.Response, error) {
	switch out := out.(type) {
	case growingResult:
		if !waited || out.fits(&c.writing, x) {
			return c.growingReply(out.growing), nil
		}
	case storedResult:
		if resp := c.storedReply(x); resp != nil {
			return resp, nil
		}
		if out.own != nil {
			return passReply(out.own, out.status), nil
		}
	case ownResult:
		return passReply(out.resp, out.status), nil
	case failedResult:
		if !before.hit {
			return nil, out.err
		}
	}
	return elsewhere(), nil
}

// storedReply answers with what a fetch has stored, or nil if it isn't good enough.
func (c *fetcher) storedReply(x *exchange.Exchange) *mesh.Response {
	l := c.look(x)
	defer l.release()
	if !l.hit || l.use(x) != httpcache.UseFresh {
		return nil
	}
	return c.entryOf(x, l)
}

// passReply answers with a response that is for the asking node's client only.
func passReply(resp *mesh.Response, status httpcache.Status) *mesh.Response {
	resp.Header.Delete(func(f mesh.Field) bool { return http1.HasPrefixFold(f.Name, "x-entry") })
	resp.Header.Add(fieldEntry, "pass")
	if status.Detail != "" {
		resp.Header.Add(fieldPlain, status.Detail)
	}
	return resp
}

// growingReply passes a response on that is still growing here.
func (c *fetcher) growingReply(g *growing) *mesh.Response {
	rec := &httpcache.Record{
		Kind: httpcache.KindResponse, Stored: g.a.stored, Head: httpcache.AppendHead(nil, g.a.header), Length: g.length,
		Chunks: 1, Nonce: g.nonce,
	}
	if g.tiers != kvcache.MemoryOnly {
		rec.Stored.Flags |= httpcache.InBucket // soon
	}
	key := g.l.primary
	if len(g.a.vary) > 0 {
		key = c.appendVariant(slices.Clip(key), g.a.vary, g.x)
	}
	scope := c.scope(g.l.primary, g.a.header, g.a.epoch)
	entry := kvcache.Entry{Key: key, Value: rec.Append(nil), Expires: time.Now().Add(g.a.stored.Keep()), Scope: scope}
	b := entry.Append(make([]byte, 4))
	binary.BigEndian.PutUint32(b, uint32(len(b)-4)) //nolint:gosec // G115: a head
	ctx, cancel := context.WithCancel(context.Background())
	return &mesh.Response{
		Status: http.StatusOK, Header: mesh.Header{{Name: fieldEntry, Value: "stored"}},
		Length: int64(len(b)) + g.length,
		Stream: &prefixed{Body: &follower{g: g, ctx: ctx, cancel: cancel}, prefix: b},
	}
}
