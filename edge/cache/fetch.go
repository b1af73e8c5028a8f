package cache

import (
	"context"
	"fmt"
	"net/http"
	"runtime/debug"
	"time"

	"millrace/edge/exchange"
	"millrace/kvcache"
	"millrace/kvcache/httpcache"
	"millrace/mesh"
	"millrace/node"
)

// lead runs one fetch: from the bucket, from the key's home node, or from the origin, in this order. It finishes the
// flight, and sends the result to the request that began the fetch, unless results is nil. The fetch ends with ctx, or
// at the deadline that the handlers behind the cache set.
func (c *fetcher) lead(ctx context.Context, flight *kvcache.Flight[result], x *exchange.Exchange, l *lookup,
	results chan<- result,
) {
	var res result = failedResult{errPanicked}
	defer func() {
		l.release()
		if p := recover(); p != nil {
			c.shared.cfg.Log.ErrorContext(ctx, "fetch for the cache panicked", "request_id", x.ID,
				"panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
		if res != nil {
			flight.Finish(res.forWaiting())
		} else {
			flight.Finish(nil)
		}
		if results != nil {
			results <- res // never blocks: the channel holds one result
		}
	}()
	ctx, cancel := context.WithCancel(ctx)
	res = c.fetch(ctx, x, l, func(g *growing) {
		c.shared.budget.publish(g) // before the flight ends, so that the next request for the key finds it
		flight.Finish(growingResult{g})
		if results != nil {
			results <- growingResult{g}
			results = nil
		}
	})
	resp := responseOf(res)
	if resp == nil || resp.Stream == nil {
		cancel()
		return
	}
	if results == nil { // a refresh: only the store needs the body
		defer time.AfterFunc(refreshTimeout, cancel).Stop()
		drain(resp.Stream)
		exchange.CloseBody(resp)
		cancel()
		return
	}
	resp.Stream = &cancelOnClose{Body: resp.Stream, cancel: cancel}
}

// refreshTimeout bounds how long a refresh reads a body of unknown length.
const refreshTimeout = time.Minute

// cancelOnClose is a body that cancels its fetch when it is closed.
type cancelOnClose struct {
	mesh.Body

	cancel context.CancelFunc
}

func (o *cancelOnClose) Close() error {
	defer o.cancel()
	return o.Body.Close()
}

// fetch gets a response and stores it if it may be stored. If the body is still arriving, fetch calls onGrowing before
// it reads on, and returns when the body has ended.
func (c *fetcher) fetch(ctx context.Context, x *exchange.Exchange, l *lookup, onGrowing func(*growing)) result {
	if c.alreadyStored(x) {
		return storedResult{status: httpcache.Status{Hit: true}}
	}
	if l.leased && c.load(ctx, x, l) {
		return storedResult{status: httpcache.Status{Hit: true, Detail: "bucket"}}
	}
	if l.leased && !isHome(x) && !ranged(x) && !otherRange(x) {
		if out, ok := c.askHome(ctx, x, l, onGrowing); ok {
			return out
		}
	}
	return c.askOrigin(ctx, x, l, onGrowing)
}

// join returns what others have begun for the request: a fetch to wait for, or a response that is still arriving. If
// there is neither, it begins a fetch; then leads is true, and the caller must lead the flight.
func (c *fetcher) join(x *exchange.Exchange, l *lookup) (flight *kvcache.Flight[result], g *growing, leads bool) {
	if flight, leads = c.shared.flights.Join(string(l.key)); !leads {
		return flight, nil, false
	}
	if g = c.shared.budget.find(l.key); g == nil || !g.usableFor(&c.writing, x) {
		return flight, nil, true
	}
	flight.Finish(growingResult{g})
	return nil, g, false
}

// alreadyStored reports whether another fetch has stored a good response since this one's lookup.
func (c *writing) alreadyStored(x *exchange.Exchange) bool {
	l := c.look(x)
	defer l.release()
	return l.hit && l.use(x) == httpcache.UseFresh && l.newer(x) && c.intact(&l.rec)
}

// newer reports whether the response is whole and was received after the one that is to be refreshed.
func (l *lookup) newer(x *exchange.Exchange) bool {
	return !l.rec.Stored.Flags.Has(httpcache.Partial) && l.rec.Stored.Received.After(refreshes(x))
}

// load looks for a fresh response in the bucket and copies it to memory. It reports whether there was one.
func (c *writing) load(ctx context.Context, x *exchange.Exchange, l *lookup) bool {
	from := &lookup{c: &c.records, primary: l.primary, key: l.primary, now: time.Now()}
	defer from.release()
	from.find(x, func(key []byte, v *kvcache.View) bool { return c.marked(key, v) || c.store.Load(ctx, key, v) })
	c.restoreVariants(l)
	if !from.hit {
		return false
	}
	if from.use(x) != httpcache.UseFresh || !from.newer(x) || !c.intact(&from.rec) {
		return false
	}
	c.stats.bucket.Add(1)
	return true
}

// marked reports whether the memory has a mark (KindGone or KindPass) in place of a response that the bucket may still
// have.
func (c *records) marked(key []byte, v *kvcache.View) bool {
	var rec httpcache.Record
	if !c.store.Get(key, v) {
		return false
	}
	if rec.Decode(v.Value) == nil && (rec.Kind == httpcache.KindGone || rec.Kind == httpcache.KindPass) {
		return true
	}
	v.Release()
	return false
}

// originRequest is what a fetch asks of its origin beside what the client's request asks.
type originRequest struct {
	stored     mesh.Header    // fields of the stored response to validate, as the origin sent them; nil if none
	ranged     bool           // only the client's ranges are asked for
	gap        httpcache.Span // what is missing between the stored parts
	completing bool
}

// originRequest changes the client's request into that of the fetch. It asks for the whole response, with the
// validators of what is stored, or for the bytes missing between stored parts. The client's Range is sent only if the
// request is for ranges; together with a validation it brings the ranges if the representation has changed, and no
// bytes if it hasn't.
func (c *fetcher) originRequest(x *exchange.Exchange, l *lookup) originRequest {
	q := originRequest{ranged: ranged(x)}
	other := otherRange(x)
	c.normalise(x)
	condition := x.Header.Values("If-Range")
	httpcache.Unconditional(&x.Header)
	if !q.ranged && !other {
		x.Header.Del("Range")
	}
	for _, value := range condition {
		if q.ranged || other {
			x.Header.Add("If-Range", value)
		}
	}
	switch {
	case !l.hit, l.crossOrigin: // a 304 wouldn't have the fields that a full response to this origin has
	case c.covers(x, &l.rec) && c.intact(&l.rec):
		q.stored, _ = c.originHeader(l.rec.Header())
		httpcache.Validators(&x.Header, q.stored)
	case !q.ranged && len(l.rec.Spans) > 0:
		if q.gap, q.completing = l.rec.Parts().Missing(); q.completing {
			x.Header.Set("Range", q.gap.Ask(l.rec.Length))
			if condition := httpcache.RangeCondition(l.rec.Header(), l.now); condition != "" {
				x.Header.Set("If-Range", condition)
			}
		}
	}
	return q
}

// askOrigin sends the request of a fetch to the handlers behind the cache. onGrowing is nil if the caller can't wait
// for a body that is stored while it arrives.
func (c *fetcher) askOrigin(ctx context.Context, x *exchange.Exchange, l *lookup, onGrowing func(*growing)) result {
	client := x.Header
	x.Header = append(mesh.Header(nil), client...)
	q := c.originRequest(x, l)
	began := c.begin()
	c.stats.fetches.Add(1)
	resp, err := c.next(ctx, x)
	x.Header = client
	if err != nil {
		c.noteDown(l, err)
		return failedResult{err}
	}
	if !resp.Header.Has("Date") { // the recipient adds one (RFC 9110 §6.6.1)
		resp.Header.Add("Date", httpcache.FormatDate(time.Now()))
	}
	validating := q.stored != nil
	switch {
	case resp.Status == http.StatusNotModified && validating && httpcache.Validates(q.stored, resp.Header):
		return c.confirm(x, l, resp, began)
	case resp.Status == http.StatusNotModified && validating: // it confirms another representation: ask for the whole
		l.hit = false
		l.release()
		return c.askOrigin(ctx, x, l, onGrowing)
	case validating && l.mayServeStale(resp.Status):
		exchange.CloseBody(resp)
		c.stats.staleErrors.Add(1)
		return storedResult{
			anyway: true,
			status: httpcache.Status{Hit: true, FwdStatus: resp.Status, Detail: "stale-if-error"},
		}
	case q.completing && resp.Status == http.StatusPartialContent:
		return c.complete(ctx, x, l, resp, q.gap, began, onGrowing)
	case q.ranged && validating && resp.Status == http.StatusPartialContent &&
		httpcache.SameRepresentation(q.stored, resp.Header, began.at):
		exchange.CloseBody(resp) // the store has the whole representation
		return c.confirm(x, l, resp, began)
	}
	return c.storeResponse(ctx, x, l, resp, began, httpcache.Status{Fwd: l.fwd()}, onGrowing)
}

// storeResponse stores a response if it may be stored, and returns the result of the fetch. The result is nil if the
// response was passed to onGrowing; then its body has been read to its end.
func (c *fetcher) storeResponse(
	ctx context.Context, x *exchange.Exchange, l *lookup, resp *mesh.Response, began startTime, status httpcache.Status,
	onGrowing func(*growing),
) result {
	a := c.admit(x, resp, began)
	if resp.Status == http.StatusPartialContent {
		return c.storePart(x, l, a, resp, status)
	}
	overBudget := false
	if a.reason == "" && resp.Stream != nil {
		switch g := c.grow(x, l, a, resp, status); {
		case g == nil:
			overBudget = resp.Length <= c.shared.budget.max // it may fit at another time
			a.reason = httpcache.ReasonTooLarge
		case resp.Length < 0 || c.endsWithRequest || onGrowing == nil:
			// It isn't known whether the body can be stored, or the fetch may be canceled with the request that began
			// it. So only that request gets the body.
			resp.Stream = g.teeTo(resp)
			return ownResult{resp, status}
		default:
			onGrowing(g)
			g.fill(c.resumable(ctx, x, resp.Stream, a.header, resp.Length))
			return nil
		}
	}
	if a.reason != "" {
		if resp.Status < 500 && !ranged(x) && !overBudget {
			c.putUncacheable(l, a.reason)
		}
		status.Detail = a.detail()
		return ownResult{resp, status}
	}
	c.put(x, l, a, resp)
	status.Stored, status.Detail = true, a.detail()
	// A response that must be validated first is for this client only.
	if fresh := a.stored.Remaining(time.Now()) > 0 && !a.stored.Flags.Has(httpcache.NoCache); !fresh {
		return ownResult{resp, status}
	}
	return storedResult{status: status, own: resp}
}

// confirm updates a stored response after a 304 (RFC 9111 §4.3.4).
func (c *fetcher) confirm(x *exchange.Exchange, l *lookup, resp *mesh.Response, began startTime) result {
	c.stats.validated.Add(1)
	stored := l.rec.Header()
	header := c.storedForm(stored, httpcache.Freshen(stored, resp.Header))
	merged := &mesh.Response{Status: l.rec.Stored.Status, Header: header}
	a := c.admit(x, merged, began)
	status := httpcache.Status{Fwd: l.fwd(), FwdStatus: resp.Status}
	if a.reason != "" {
		if !c.onlyForClient(x, a.reason) {
			c.markUncacheable(l, a.reason)
		}
		status.Detail = string(a.reason)
		if !c.copyBody(x, l, merged) {
			return failedResult{node.Errorf(node.CodeUpstream, errChunk,
				"the origin has taken a stored response back")}
		}
		return ownResult{merged, status}
	}
	c.renew(x, l, a)
	status.Stored, status.Detail = true, a.detail()
	out := storedResult{status: status}
	if a.stored.Flags.Has(httpcache.NoCache) || a.stored.Remaining(time.Now()) <= 0 {
		if l.rec.Chunks == 0 && !ranged(x) {
			out.own = &mesh.Response{Status: merged.Status, Header: a.header, Body: append([]byte(nil), l.rec.Body...)}
		}
	}
	return out
}

// onlyForClient reports whether the answer to a request is for its client alone: because of what the request has, or
// because it has credentials, to which an origin may answer anything. Such an answer says nothing about what is stored
// for others.
func (c *keying) onlyForClient(x *exchange.Exchange, reason httpcache.Reason) bool {
	switch reason { //nolint:exhaustive // the others are the response's
	case httpcache.ReasonAuthorization, httpcache.ReasonRequest, httpcache.ReasonRequestCookie, reasonContent:
		return true
	}
	return x.Header.Has("Authorization") || x.Outcome.Incomplete
}

// refresh fetches a response again in the background while clients get the stored one. One fetch serves all of them.
func (c *fetcher) refresh(x *exchange.Exchange, l *lookup) {
	if _, marked := c.downMark(l); marked {
		return
	}
	flight, _, leads := c.join(x, l)
	if !leads {
		return
	}
	c.stats.refreshed.Add(1)
	d := detach(x)
	scratchOf(d).refreshing = l.rec.Stored.Received
	if d.Method == http.MethodHead { // the whole response is fetched, whatever this client asked for
		d.Method = http.MethodGet
	}
	if !otherRange(d) {
		d.Header.Del("Range")
	}
	if d.Method == http.MethodGet { // the body isn't a part of the key
		d.Body = nil
	}
	go c.lead(context.Background(), flight, d, l.detach(), nil)
}

// normalise changes the client's request so that its response can be shared: content codings in one spelling, only the
// parameters that count, and none of the fields with which clients make an origin answer another request than that of
// the key (RFC 9110 has none of them).
func (c *keying) normalise(x *exchange.Exchange) {
	if lines := x.Header.Values("Accept-Encoding"); len(lines) > 0 {
		coding := httpcache.AcceptEncoding(lines)
		if c.cfg.Compress {
			coding = "identity"
		}
		x.Header = append(mesh.Header(nil), x.Header...) // the array may be shared with another header
		for i := range x.Header {
			if node.SameName(x.Header[i].Name, "Accept-Encoding") { // further lines become empty and are removed below
				x.Header[i].Value, coding = coding, ""
			}
		}
		x.Header.Delete(func(f mesh.Field) bool { return f.Value == "" && node.SameName(f.Name, "Accept-Encoding") })
	}
	x.Query = c.query(x.Query)
	x.Header.Delete(func(f mesh.Field) bool {
		return c.unkeyed(f.Name) || (c.cfg.Cookies == node.CookiesStrip && node.SameName(f.Name, "Cookie"))
	})
}
