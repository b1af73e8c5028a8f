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
	"millrace/node"
)

// A node that doesn't have a key asks the key's home, a node that fetches it once for all nodes. They speak on a
// subject of the home. The request is the client's, with a homeCall in its Route. The reply is an entry of the store,
// or the origin's response if that is for this client only.

// Peers says which nodes fetch for one another.
type Peers interface {
	// Alive returns the ids of the nodes that are running, this one included.
	Alive() []string
	// Seen returns when a node was last heard.
	Seen(node string) time.Time
}

// homeAckTimeout is how long a home has to acknowledge a request. One whose heartbeats were heard within
// homeHeartbeatTimeout is slow, not stopped, and has as long as a request waits for another's fetch. A home that
// doesn't acknowledge in time isn't asked again for homeRetryAfter.
const (
	homeAckTimeout       = time.Second
	homeHeartbeatTimeout = 2500 * time.Millisecond
	homeRetryAfter       = 5 * time.Second
)

// Fields of a home's reply.
const (
	fieldEntry  = "X-Entry"        // "stored", "pass" or "elsewhere"
	fieldStatus = "X-Entry-Status" // detail of the fetch's Cache-Status
)

// unresponsive remembers the homes that didn't answer lately. It is safe for concurrent use.
type unresponsive struct{ until sync.Map }

func (s *unresponsive) add(node string) { s.until.Store(node, time.Now().Add(homeRetryAfter)) }

func (s *unresponsive) has(node string) bool {
	until, ok := s.until.Load(node)
	if !ok {
		return false
	}
	if time.Now().After(until.(time.Time)) { // add stores nothing else
		s.until.Delete(node)
		return false
	}
	return true
}

// askHome asks the key's home to fetch it. ok is false if this node must do so itself.
func (c *fetcher) askHome(ctx context.Context, x *exchange.Exchange, l *lookup, onGrowing func(*growing),
) (res result, ok bool) {
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
		return c.fromHome(ctx, x, l, resp, onGrowing)
	case "pass":
		c.stats.home.Add(1)
		detail := resp.Header.Get(fieldStatus)
		resp.Header.Delete(func(f mesh.Field) bool { return node.HasPrefixFold(f.Name, "x-entry") })
		if resp.Status < 500 {
			c.putUncacheable(l, httpcache.Reason(detail))
		}
		return ownResult{resp, httpcache.Status{Fwd: l.fwd(), Detail: detail}}, true
	}
	exchange.CloseBody(resp)
	return nil, false
}

// callHome sends the request to the home, and gives up if the home doesn't acknowledge it in time. Nil means that there
// is no usable answer.
func (c *fetcher) callHome(ctx context.Context, x *exchange.Exchange, home string) *mesh.Response {
	ctx, cancel := context.WithCancel(ctx)
	var acked atomic.Bool
	asked := time.Now()
	var ackTimer *time.Timer
	ackTimer = time.AfterFunc(time.Hour, func() {
		switch {
		case acked.Load():
		case time.Since(asked) < maxWait(x) && time.Since(c.shared.cfg.Peers.Seen(home)) < homeHeartbeatTimeout:
			ackTimer.Reset(homeAckTimeout / 2)
		default:
			c.shared.unresponsive.add(home)
			cancel()
		}
	})
	ackTimer.Reset(homeAckTimeout)
	defer ackTimer.Stop()
	header := append(mesh.Header(nil), x.Header...)
	httpcache.Unconditional(&header)
	resp, err := c.shared.cfg.Mesh.Do(ctx, c.shared.cfg.Mesh.Node("cache", home), &mesh.Request{
		Method: x.Method, Target: x.Path + x.Query, Host: x.Host, Header: header, Body: x.Body,
		Deadline: time.Now().Add(x.Timeout()),
		Interim:  func(int, mesh.Header) { acked.Store(true) }, Route: c.homeCall(x).String(),
	})
	acked.Store(true)
	if err != nil {
		cancel()
		return nil
	}
	if resp.Stream == nil {
		cancel()
	} else {
		resp.Stream = &cancelOnClose{Body: resp.Stream, cancel: cancel}
	}
	return resp
}

// fromHome stores an entry that the home has sent. ok is false if it can't be used.
func (c *fetcher) fromHome(
	ctx context.Context, x *exchange.Exchange, l *lookup, resp *mesh.Response, onGrowing func(*growing),
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
		return nil, false // a purge that the home hasn't applied reaches it
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
		g.tiers = kvcache.MemoryOnly // the home writes it to the bucket
		if rec.Nonce != 0 {          // with this nonce in the keys of its chunks
			g.nonce = rec.Nonce
		}
		onGrowing(g)
		g.fill(c.resumable(ctx, x, mesh.NewBody(body), header, rec.Length))
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

// readEntry reads the entry, without its body, with which a home's reply begins.
func readEntry(r io.Reader, e *kvcache.Entry) error {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > 1<<20 {
		return errEntryHead
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	return e.Decode(b)
}

var errEntryHead = errors.New("the head of an entry is too large")

// Fetch answers another node's request to fetch for it.
func (s *Cache) Fetch(ctx context.Context, req *mesh.Request) (*mesh.Response, error) {
	req.Interim(http.StatusProcessing, nil)
	x, c := s.homeExchange(req)
	if c == nil || !c.store.Leased() {
		return elsewhereReply(), nil
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
		results := make(chan result, 1)
		background := context.Background()
		go c.lead(background, flight, detach(x), l.detach(), results) //nolint:gosec // G118: it outlives its client
		select {
		case out = <-results:
		case <-ctx.Done():
			// The fetch goes on. A body that is for this client only is closed.
			go func() { exchange.CloseBody(responseOf(<-results)) }()
			return nil, exchange.ErrGone
		}
	} else {
		out, ok = flight.Wait(ctx, maxWait(x))
	}
	if !ok {
		return elsewhereReply(), nil
	}
	return c.homeReply(x, l, out, !leads)
}

// elsewhereReply tells a node to fetch for itself.
func elsewhereReply() *mesh.Response {
	return &mesh.Response{
		Status: http.StatusMisdirectedRequest,
		Header: mesh.Header{{Name: fieldEntry, Value: "elsewhere"}},
	}
}

// entryReply answers with a stored response that is good enough, or returns nil.
func (c *fetcher) entryReply(x *exchange.Exchange, l *lookup) *mesh.Response {
	if !l.hit || l.use(x) != httpcache.UseFresh || !l.newer(x) {
		return nil
	}
	return c.entryOf(x, l)
}

// entryOf returns a stored response as the reply to another node; nil if its body can't be served.
func (c *fetcher) entryOf(x *exchange.Exchange, l *lookup) *mesh.Response {
	rec := &l.rec
	head := *rec
	head.Body, head.Chunks = nil, 1 // without chunks a record that lacks its body is malformed
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

// prefixed is a body that follows a few bytes.
type prefixed struct {
	mesh.Body

	prefix []byte
}

func (p *prefixed) Next() (mesh.Piece, error) {
	if p.prefix == nil {
		return p.Body.Next() // not wrapped: callers compare it with io.EOF
	}
	piece := mesh.Piece{Data: p.prefix}
	p.prefix = nil
	return piece, nil
}

// homeReply answers with the result of a fetch.
func (c *fetcher) homeReply(x *exchange.Exchange, before *lookup, out result, waited bool) (*mesh.Response, error) {
	switch out := out.(type) {
	case growingResult:
		if !waited || out.usableFor(&c.writing, x) {
			return c.growingReply(out.growing), nil
		}
	case storedResult:
		if resp := c.storedReply(x); resp != nil {
			return resp, nil
		}
		if out.own != nil {
			return unsharedReply(out.own, out.status), nil
		}
	case ownResult:
		return unsharedReply(out.resp, out.status), nil
	case failedResult:
		if !before.hit {
			return nil, out.err
		}
	}
	return elsewhereReply(), nil
}

// storedReply answers with what a fetch has stored, or returns nil if that isn't good enough.
func (c *fetcher) storedReply(x *exchange.Exchange) *mesh.Response {
	l := c.look(x)
	defer l.release()
	if !l.hit || l.use(x) != httpcache.UseFresh {
		return nil
	}
	return c.entryOf(x, l)
}

// unsharedReply answers with a response that is for the asking node's client only.
func unsharedReply(resp *mesh.Response, status httpcache.Status) *mesh.Response {
	resp.Header.Delete(func(f mesh.Field) bool { return node.HasPrefixFold(f.Name, "x-entry") })
	resp.Header.Add(fieldEntry, "pass")
	if status.Detail != "" {
		resp.Header.Add(fieldStatus, status.Detail)
	}
	return resp
}

// growingReply answers with a response that is still being collected here.
func (c *fetcher) growingReply(g *growing) *mesh.Response {
	rec := &httpcache.Record{
		Kind: httpcache.KindResponse, Stored: g.a.stored, Head: httpcache.AppendHead(nil, g.a.header), Length: g.length,
		Chunks: 1, Nonce: g.nonce,
	}
	if g.tiers != kvcache.MemoryOnly {
		rec.Stored.Flags |= httpcache.InBucket // it will be, when it is complete
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
