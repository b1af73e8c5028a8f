package cache

import (
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"millrace/edge/exchange"
	"millrace/kvcache"
	"millrace/kvcache/httpcache"
	"millrace/mesh"
	"millrace/node"
)

// answer returns the response to an exchange if a stored one may be used, else nil.
func (c *fetcher) answer(x *exchange.Exchange, l *lookup) *mesh.Response {
	if !l.hit {
		return nil
	}
	switch l.use(x) {
	case httpcache.UseFresh:
		if c.expiresEarly(l) {
			c.refresh(x, l)
		}
	case httpcache.UseRefresh:
		c.refresh(x, l)
	case httpcache.UseValidate, httpcache.UseNever:
		return nil
	}
	return c.serve(x, l, httpcache.Status{Hit: true})
}

// expiresEarly decides at random that a response is fetched again before it is stale, so that not all its clients find
// it stale at the same moment. The closer the end of its freshness and the longer a fetch takes, the likelier that is
// (XFetch: Vattani, Chierichetti, Lowenstein, VLDB 2015).
//
// Responses whose freshness comes from the route's settings all expire after the same time. So each gets a moment of
// its own, by a hash of its key, and responses that were stored together aren't fetched together.
func (c *records) expiresEarly(l *lookup) bool {
	s := &l.rec.Stored
	left := s.Remaining(l.now)
	if left <= 0 {
		return false
	}
	if s.Flags.Has(httpcache.Defaulted) && left <= s.Lifetime/20 && left <= s.Spread(variantID(l.key)) {
		return true
	}
	fetch := max(s.Received.Sub(s.Requested), time.Millisecond)
	if left > 20*fetch {
		return false
	}
	return float64(fetch)*-math.Log(1-rand.Float64()) >= float64(left) //nolint:gosec // G404: a dice, not a secret
}

// serve returns the response to a client made from a stored one. It takes over the lookup's view. Nil means that a part
// of the body is missing.
func (c *serving) serve(x *exchange.Exchange, l *lookup, status httpcache.Status) *mesh.Response {
	resp := &mesh.Response{}
	if !c.serveInto(x, l, status, resp) {
		return nil
	}
	return resp
}

func (c *serving) serveInto(x *exchange.Exchange, l *lookup, status httpcache.Status, resp *mesh.Response) bool {
	rec := &l.rec
	status.HasTTL, status.TTL = true, rec.Stored.Remaining(l.now)
	from := &scratchOf(x).stored
	*from = stored{head: rec.Head, age: rec.Stored.Age(l.now), status: status}
	*resp = mesh.Response{Status: rec.Stored.Status, Length: rec.Length}
	var ok bool
	switch {
	case c.conditional(x):
		ok = c.serveConditional(x, l, from, resp)
	case rec.Stored.Flags.Has(httpcache.Partial):
		ok = false
	default:
		ok = c.setWhole(x, l, resp)
	}
	if !ok {
		return false
	}
	from.view, l.view = l.view, kvcache.View{}
	from.view.Entry = kvcache.Entry{} // from and resp refer to its bytes
	x.Outcome.Stored, x.Outcome.Cache = from, status
	return true
}

// conditional reports whether the response depends on more of the request than its key.
func (c *keying) conditional(x *exchange.Exchange) bool {
	for i := range x.Header {
		switch name := x.Header[i].Name; name[0] | 0x20 {
		case 'i':
			if node.HasPrefixFold(name, "if-") {
				return true
			}
		case 'r':
			if node.SameName(name, "Range") {
				return true
			}
		}
	}
	return c.cfg.StripTags
}

// setWhole sets the whole body. It reports whether the body is there.
func (c *serving) setWhole(x *exchange.Exchange, l *lookup, resp *mesh.Response) bool {
	rec := &l.rec
	if rec.Chunks == 0 {
		resp.Body = rec.Body
		return true
	}
	if x.Method == http.MethodHead {
		return true
	}
	body, ok := c.chunks(x, l, httpcache.Span{First: 0, Last: rec.Length - 1})
	if ok {
		resp.Stream = body
	}
	return ok
}

// serveConditional answers with 304, 206 or 416 where the request asks for it, else with the whole response.
func (c *serving) serveConditional(x *exchange.Exchange, l *lookup, from *stored, resp *mesh.Response) bool {
	rec := &l.rec
	h := rec.Header()
	if c.cfg.StripTags {
		stripTags(&h)
	}
	request := &httpcache.Request{Method: x.Method, Header: x.Header}
	if httpcache.NotModified(request, rec.Stored.Status, h, l.now) && !rec.Stored.Flags.Has(httpcache.Partial) {
		resp.Status, resp.Length = http.StatusNotModified, 0
		from.head = httpcache.AppendHead(nil, httpcache.NotModifiedHeader(h))
		return true
	}
	partial := rec.Stored.Flags.Has(httpcache.Partial)
	if ranged(x) && (partial || rec.Stored.Status == http.StatusOK) && httpcache.RangeApplies(x.Header, h, l.now) {
		if partial && len(rec.Spans) == 0 { // it answers the same Range field as before
			resp.Body, from.head = rec.Body, httpcache.AppendHead(nil, h)
			return c.covers(x, rec)
		}
		if spans, use := httpcache.ParseRange(x.Header.Get("Range"), rec.Length); use != httpcache.RangeNone &&
			c.inMemory(rec, spans) {
			h, ok := c.serveRange(x, l, resp, h, spans)
			from.head = httpcache.AppendHead(nil, h)
			return ok
		}
	}
	if partial {
		return false
	}
	from.head = httpcache.AppendHead(nil, h)
	return c.setWhole(x, l, resp)
}

// serveRange answers with the spans, or with 416 if there are none. It changes the fields h and returns them.
func (c *serving) serveRange(
	x *exchange.Exchange, l *lookup, resp *mesh.Response, h mesh.Header, spans []httpcache.Span,
) (fields mesh.Header, ok bool) {
	rec := &l.rec
	h.Del("Content-Range")
	switch len(spans) {
	case 0:
		resp.Status, resp.Length = http.StatusRequestedRangeNotSatisfiable, 0
		h.Del("Content-Type")
		h.Add("Content-Range", httpcache.UnsatisfiedRange(rec.Length))
		return h, true
	case 1:
		h.Add("Content-Range", httpcache.ContentRange(spans[0], rec.Length))
		resp.Length = spans[0].Len()
		ok = c.setSpan(x, l, resp, spans[0])
	default:
		frame := httpcache.NewMultipart(spans, rec.Length, h.Get("Content-Type"),
			x.ID+strconv.FormatUint(rec.Nonce, 16)+h.Get("ETag")+x.Started.String())
		h.Set("Content-Type", frame.ContentType)
		resp.Length = frame.Length
		ok = c.setMultipart(x, l, resp, spans, frame)
	}
	resp.Status = http.StatusPartialContent
	return h, ok
}

// setSpan sets one span of the body as the response's body. It reports whether the span is there.
func (c *serving) setSpan(x *exchange.Exchange, l *lookup, resp *mesh.Response, s httpcache.Span) (ok bool) {
	rec := &l.rec
	switch {
	case rec.Stored.Flags.Has(httpcache.Partial):
		resp.Body, ok = rec.Parts().Find(s)
		return ok
	case rec.Chunks == 0:
		resp.Body = rec.Body[s.First : s.Last+1]
		return true
	}
	resp.Stream, ok = c.chunks(x, l, s)
	return ok
}

// links returns the Link fields of a stored response that a browser can act on before the response arrives (RFC 8297).
func links(rec *httpcache.Record) mesh.Header {
	var out mesh.Header
	for _, f := range rec.Header() {
		if node.SameName(f.Name, "Link") &&
			(strings.Contains(f.Value, "preload") || strings.Contains(f.Value, "preconnect")) {
			out = append(out, f)
		}
	}
	return out
}

// sendEarlyHints sends an interim response 103 to a browser that loads a page: the links of the page's stored response.
func (c *serving) sendEarlyHints(x *exchange.Exchange, l *lookup) {
	if !l.hit || x.Interim == nil || x.Header.Get("Sec-Fetch-Mode") != "navigate" {
		return
	}
	if h := links(&l.rec); len(h) > 0 {
		x.Interim(http.StatusEarlyHints, h)
	}
}
