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

// lead runs one fetch: from the bucket, from the key's home node, or from the origin, in this order. It ends the
// flight, and tells the one that began it what came. The fetch ends with ctx, or at the deadline that the chain sets.
func (c *fetcher) lead(ctx context.Context, flight *kvcache.Flight[result], x *exchange.Exchange, l *lookup,
	mine chan<- result,
) {
	var out result = failedResult{errPanicked}
	defer func() {
		l.release()
		if p := recover(); p != nil {
			c.shared.cfg.Log.ErrorContext(ctx, "fetch for the cache panicked", "request_id", x.ID, "panic",
				fmt.Sprint(p),
				"stack", string(debug.Stack()))
		}
		if out != nil {
			flight.Finish(out.forWaiting())
		} else {
			flight.Finish(nil)
		}
		if mine != nil {
			mine <- out // it has room
		}
	}()
	ctx, cancel := context.WithCancel(ctx)
	out = c.fetch(ctx, x, l, func(g *growing) {
		c.shared.filling.show(g) // before the flight ends, so that whoever begins the next one finds it
		flight.Finish(growingResult{g})
		if mine != nil {
			mine <- growingResult{g}
			mine = nil
		}
	})
	resp := responseOf(out)
	if resp == nil || resp.Stream == nil {
		cancel()
		return
	}
	if mine == nil { // a refresh: nobody but the store wants it
		defer time.AfterFunc(refreshTime, cancel).Stop()
		drain(resp.Stream)
		exchange.CloseBody(resp)
		cancel()
		return
	}
	resp.Stream = &owned{Body: resp.Stream, end: cancel}
}

// refreshTime bounds how long a body of unknown length is read that nobody waits for.
const refreshTime = time.Minute

// owned is a body that ends its fetch when it is closed.
type owned struct {
	mesh.Body

	end context.CancelFunc
}

func (o *owned) Close() error {
	defer o.end()
	return o.Body.Close() //nolint:wrapcheck // a wrapped body's errors are its own
}

// fetch gets a response and stores it if it may. grows is told of one whose body is still coming, before fetch returns.
func (c *fetcher) fetch(ctx context.Context, x *exchange.Exchange, l *lookup, grows func(*growing)) result {
	if c.arrived(x) {
		return storedResult{status: httpcache.Status{Hit: true}}
	}
	if l.leased && c.load(ctx, x, l) {
		return storedResult{status: httpcache.Status{Hit: true, Detail: "bucket"}}
	}
	if l.leased && !isHome(x) && !ranged(x) && !otherRange(x) {
		if out, ok := c.askHome(ctx, x, l, grows); ok {
			return out
		}
	}
	return c.askOrigin(ctx, x, l, grows)
}

// join gives what others have begun for the request: a fetch to wait for, or a response that is still coming. Else it
// begins a fetch, which the caller leads.
func (c *fetcher) join(x *exchange.Exchange, l *lookup) (flight *kvcache.Flight[result], g *growing, leads bool) {
	if flight, leads = c.shared.flights.Join(string(l.key)); !leads {
		return flight, nil, false
	}
	if g = c.shared.filling.find(l.key); g == nil || !g.fits(&c.writing, x) {
		return flight, nil, true
	}
	flight.Finish(growingResult{g})
	return nil, g, false
}

// arrived reports whether another fetch has stored a good response between this one's lookup and its turn.
func (c *writing) arrived(x *exchange.Exchange) bool {
	l := c.look(x)
	defer l.release()
	return l.hit && l.use(x) == httpcache.UseFresh && l.newer(x) && c.intact(&l.rec)
}

// newer reports whether a whole response was received after the one that is to be refreshed.
func (l *lookup) newer(x *exchange.Exchange) bool {
	return !l.rec.Stored.Flags.Has(httpcache.Partial) && l.rec.Stored.Received.After(refreshes(x))
}

// load looks for a fresh response in the bucket, and brings it into memory.
func (c *writing) load(ctx context.Context, x *exchange.Exchange, l *lookup) bool {
	from := &lookup{c: &c.records, primary: l.primary, key: l.primary, now: time.Now()}
	defer from.release()
	from.find(x, func(key []byte, v *kvcache.View) bool { return c.marked(key, v) || c.store.Load(ctx, key, v) })
	c.keepVariants(l)
	if !from.hit {
		return false
	}
	if from.use(x) != httpcache.UseFresh || !from.newer(x) || !c.intact(&from.rec) {
		return false
	}
	c.stats.bucket.Add(1)
	return true
}

// marked reports whether the memory has a mark in place of what the bucket may still have.
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

// question is what a fetch asks its origin for, beside what the client's request asks.
type question struct {
	stored     mesh.Header    // fields of what is validated, as the origin knows them; nil if nothing is
	ranged     bool           // the client's ranges only
	gap        httpcache.Span // what is missing of the stored parts
	completing bool
}

// question makes the client's request the fetch's own: for all its response is for, with the validators of what is
// stored, or for what is missing of it. A client's range goes along only where more isn't wanted; asked together with a
// validation it brings what has changed, and nothing if nothing has.
func (c *fetcher) question(x *exchange.Exchange, l *lookup) question {
	q := question{ranged: ranged(x)}
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
	case !l.hit, l.alien: // a confirmation wouldn't tell what all of it would
	case c.covers(x, &l.rec) && c.intact(&l.rec):
		q.stored, _ = c.plain(l.rec.Header())
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

// askOrigin asks behind the cache. grows is nil if the caller can't wait for a body that is stored while it comes.
func (c *fetcher) askOrigin(ctx context.Context, x *exchange.Exchange, l *lookup, grows func(*growing)) result {
	client := x.Header
	x.Header = append(mesh.Header(nil), client...)
	q := c.question(x, l)
	began := c.begin()
	c.stats.fetches.Add(1)
	resp, err := c.next(ctx, x)
	x.Header = client
	if err != nil {
		c.noteDown(l, err)
		return failedResult{err}
	}
	if !resp.Header.Has("Date") { // it is as old as its way here (RFC 9110 §6.6.1)
		resp.Header.Add("Date", httpcache.FormatDate(time.Now()))
	}
	validating := q.stored != nil
	switch {
	case resp.Status == http.StatusNotModified && validating && httpcache.Validates(q.stored, resp.Header):
		return c.confirm(x, l, resp, began)
	case resp.Status == http.StatusNotModified && validating: // about something else: ask for all
		l.hit = false
		l.release()
		return c.askOrigin(ctx, x, l, grows)
	case validating && l.standsIn(resp.Status):
		exchange.CloseBody(resp)
		c.stats.staleErrors.Add(1)
		return storedResult{
			anyway: true,
			status: httpcache.Status{Hit: true, FwdStatus: resp.Status, Detail: "stale-if-error"},
		}
	case q.completing && resp.Status == http.StatusPartialContent:
		return c.complete(ctx, x, l, resp, q.gap, began, grows)
	case q.ranged && validating && resp.Status == http.StatusPartialContent &&
		httpcache.SameRepresentation(q.stored, resp.Header, began.at):
		exchange.CloseBody(resp) // the store has these bytes, and all others
		return c.confirm(x, l, resp, began)
	}
	return c.keep(ctx, x, l, resp, began, httpcache.Status{Fwd: l.fwd()}, grows)
}

// keep stores a response if it may be, and says for whom it is.
func (c *fetcher) keep(
	ctx context.Context, x *exchange.Exchange, l *lookup, resp *mesh.Response, began moment, status httpcache.Status,
	grows func(*growing),
) result {
	a := c.admit(x, resp, began)
	if resp.Status == http.StatusPartialContent {
		return c.keepPart(x, l, a, resp, status)
	}
	full := false
	if a.reason == "" && resp.Stream != nil {
		switch g := c.grow(x, l, a, resp, status); {
		case g == nil:
			full = resp.Length <= c.shared.filling.max // another time there may be room
			a.reason = httpcache.ReasonTooLarge
		case resp.Length < 0 || c.tied || grows == nil:
			// Nobody knows whether it can be kept, or it may break off with the one that began it: one client follows
			// it.
			resp.Stream = g.copies(resp)
			return ownResult{resp, status}
		default:
			grows(g)
			g.fill(c.resumed(ctx, x, resp.Stream, a.header, resp.Length))
			return nil
		}
	}
	if a.reason != "" {
		if resp.Status < 500 && !ranged(x) && !full {
			c.putPass(l, a.reason)
		}
		status.Detail = a.detail()
		return ownResult{resp, status}
	}
	c.put(x, l, a, resp)
	status.Stored, status.Detail = true, a.detail()
	// good for one client only, until it is validated
	if fresh := a.stored.Remaining(time.Now()) > 0 && !a.stored.Flags.Has(httpcache.NoCache); !fresh {
		return ownResult{resp, status}
	}
	return storedResult{status: status, own: resp}
}

// confirm freshens a stored response after a 304 (RFC 9111 §4.3.4).
func (c *fetcher) confirm(x *exchange.Exchange, l *lookup, resp *mesh.Response, began moment) result {
	c.stats.validated.Add(1)
	stored := l.rec.Header()
	header := c.recoded(stored, httpcache.Freshen(stored, resp.Header))
	merged := &mesh.Response{Status: l.rec.Stored.Status, Header: header}
	a := c.admit(x, merged, began)
	status := httpcache.Status{Fwd: l.fwd(), FwdStatus: resp.Status}
	if a.reason != "" {
		if !c.forItself(x, a.reason) {
			c.forget(l, a.reason)
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

// forItself reports whether a request gets an answer that is for its client alone: because of what it has itself, or
// with credentials, to which an origin may say anything. So it says nothing of what is stored for others.
func (c *keying) forItself(x *exchange.Exchange, reason httpcache.Reason) bool {
	switch reason { //nolint:exhaustive // the others are the response's
	case httpcache.ReasonAuthorization, httpcache.ReasonRequest, httpcache.ReasonRequestCookie, reasonContent:
		return true
	}
	return x.Header.Has("Authorization") || x.Outcome.Incomplete
}

// refresh fetches a response anew while its clients get the stored one. One fetch is enough for all.
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
	if d.Method == http.MethodHead { // all of it is fetched, whatever part of it this client wants
		d.Method = http.MethodGet
	}
	if !otherRange(d) {
		d.Header.Del("Range")
	}
	if d.Method == http.MethodGet { // nor with a body, which is no part of the key
		d.Body = nil
	}
	go c.lead(context.Background(), flight, d, l.detach(), nil)
}

// normalise makes the client's request one whose response can be for others: content codings in one spelling, only the
// parameters that count, and none of the fields with which clients make an origin answer another request than the one
// of the key (RFC 9110 has none of them).
func (c *keying) normalise(x *exchange.Exchange) {
	if lines := x.Header.Values("Accept-Encoding"); len(lines) > 0 {
		coding := httpcache.AcceptEncoding(lines)
		if c.cfg.Compress {
			coding = "identity"
		}
		x.Header = append(mesh.Header(nil), x.Header...) // its lines may be another's too
		for i := range x.Header {
			if node.SameName(x.Header[i].Name, "Accept-Encoding") { // further lines go below
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
