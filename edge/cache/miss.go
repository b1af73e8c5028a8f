package cache

import (
	"context"
	"errors"
	"net/http"
	"time"

	"millrace/edge/exchange"
	"millrace/kvcache"
	"millrace/kvcache/httpcache"
	"millrace/mesh"
	"millrace/node"
)

// miss gets a response that the memory doesn't have, or has but can't serve as it is.
func (c *Policy) miss(ctx context.Context, x *exchange.Exchange, l *lookup) (*mesh.Response, error) {
	switch {
	case hasContent(x):
		return c.withContent(ctx, x, l)
	case x.Method == http.MethodHead:
		return c.head(ctx, x, l)
	case c.isDown(l):
		return c.failed(x, l, errDown)
	case ranged(x) && (!l.hit || !c.covers(x, &l.rec) || !l.rec.Stored.Flags.Has(httpcache.HasValidator)):
		return c.partial(ctx, x, l)
	case l.uncacheable:
		return c.forward(ctx, x, l, httpcache.Reason(l.why))
	case l.withheld != "": // its response must not replace the one stored for others either
		return c.forward(ctx, x, l, l.withheld)
	}
	c.sendEarlyHints(x, l)
	return c.collapse(ctx, x, l)
}

// collapse waits for a running fetch of the same key, or begins one. The fetch goes on if its client goes away.
func (c *Policy) collapse(ctx context.Context, x *exchange.Exchange, l *lookup) (*mesh.Response, error) {
	if x.Incoming != nil {
		x.Watch()
	}
	flight, g, leads := c.join(x, l)
	var results chan result
	if g != nil {
		return c.follow(x, g, true), nil
	}
	if leads {
		results = make(chan result, 1)
		d := detach(x)
		interims := relayInterim(d, x.Interim)
		go c.lead(c.fetchContext(ctx), flight, d, l.detach(), results)
		for {
			select {
			case hint := <-interims:
				x.Interim(hint.status, hint.header)
			case out := <-results:
				for len(interims) > 0 { // interim responses that arrived before the final one
					hint := <-interims
					x.Interim(hint.status, hint.header)
				}
				return c.useResult(ctx, x, l, out, false)
			case <-ctx.Done():
				// The fetch goes on. A body that is for this client only is closed.
				go func() { exchange.CloseBody(responseOf(<-results)) }()
				return nil, exchange.Ended(ctx)
			}
		}
	}
	out, ok := flight.Wait(ctx, maxWait(x))
	switch {
	case ctx.Err() != nil:
		return nil, exchange.Ended(ctx)
	case !ok:
		return c.forward(ctx, x, l, "slow")
	}
	return c.useResult(ctx, x, l, out, true)
}

// fetchContext returns the context of a fetch. Others may wait for the fetch, so it isn't canceled with the client that
// began it, unless the policy says so.
func (c *fetcher) fetchContext(ctx context.Context) context.Context {
	if c.endsWithRequest {
		return ctx
	}
	return context.Background()
}

// interim is an interim response passed from a fetch to the request that waits for it.
type interim struct {
	status int
	header mesh.Header
}

// relayInterim returns a channel that receives the interim responses of x, the exchange of a fetch. Only the waiting
// goroutine may write to the client, so the fetch never does. When the channel is full, further interim responses are
// dropped; they are optional (RFC 9110 §15.2). The channel is nil if the client can't have interim responses, and is
// never closed.
func relayInterim(x *exchange.Exchange, to func(int, mesh.Header)) <-chan interim {
	if to == nil {
		return nil
	}
	interims := make(chan interim, node.MaxInterim)
	x.Interim = func(status int, h mesh.Header) {
		select {
		case interims <- interim{status, h}:
		default:
		}
	}
	return interims
}

// useResult answers with the result of a fetch. Requests that waited look the response up again, so that validity,
// variant and freshness are judged for each of them.
func (c *Policy) useResult(ctx context.Context, x *exchange.Exchange, before *lookup, out result, waited bool,
) (*mesh.Response, error) {
	switch out := out.(type) {
	case growingResult:
		if !waited || out.usableFor(&c.writing, x) {
			return c.follow(x, out.growing, waited), nil
		}
	case ownResult:
		return c.serveOwn(x, out.resp, out.status)
	case storedResult:
		if out.own != nil {
			return c.serveOwn(x, out.own, out.status)
		}
		return c.lookAgain(ctx, x, before, out, waited)
	case failedResult:
		return c.failed(x, before, out.err)
	case retryResult:
		if time.Since(x.Started) < x.Timeout()/4 {
			return c.waitAgain(ctx, x, before)
		}
	}
	return c.forward(ctx, x, before, "not-shared")
}

// lookAgain answers with what a fetch has stored, if that is good enough for the request.
func (c *Policy) lookAgain(ctx context.Context, x *exchange.Exchange, before *lookup, out storedResult, waited bool,
) (*mesh.Response, error) {
	l := c.look(x)
	defer l.release()
	if l.hit && (!waited || out.anyway || l.use(x) == httpcache.UseFresh || l.use(x) == httpcache.UseRefresh) {
		out.status.Collapsed = waited
		if resp := c.serve(x, l, out.status); resp != nil {
			return resp, nil
		}
		waited = true // the response has left the store since
	}
	if waited && !l.uncacheable {
		return c.waitAgain(ctx, x, l)
	}
	return c.forward(ctx, x, before, "not-shared")
}

// waitAgain waits once more, for the request's own fetch. It is for a request that waited for another variant, or for a
// fetch that failed another request. After two more waits the request is forwarded.
func (c *Policy) waitAgain(ctx context.Context, x *exchange.Exchange, l *lookup) (*mesh.Response, error) {
	if scratchOf(x).waited++; scratchOf(x).waited > 2 {
		return c.forward(ctx, x, l, "not-shared")
	}
	return c.collapse(ctx, x, l)
}

// serveOwn answers the request that began a fetch with the fetched response. The fetch asked for all of it, so the
// request's conditions and ranges are evaluated here.
func (c *serving) serveOwn(x *exchange.Exchange, resp *mesh.Response, status httpcache.Status) (*mesh.Response, error) {
	request := &httpcache.Request{Method: x.Method, Header: x.Header}
	switch {
	case resp.Stream != nil:
	case httpcache.NotModified(request, resp.Status, resp.Header, time.Now()):
		resp = &mesh.Response{
			Status: http.StatusNotModified, Header: httpcache.NotModifiedHeader(resp.Header),
			Member: resp.Member,
		}
	case ranged(x) && resp.Status == http.StatusOK:
		resp = c.cutRanges(x, resp)
	}
	c.writeStatus(x, resp, status)
	return resp, nil
}

// cutRanges returns the ranges of a whole response that the exchange asks for, or the whole.
func (c *serving) cutRanges(x *exchange.Exchange, whole *mesh.Response) *mesh.Response {
	l := &lookup{c: &c.records}
	l.rec = httpcache.Record{Body: whole.Body, Length: int64(len(whole.Body))}
	l.rec.Stored.Status = whole.Status
	spans, use := httpcache.ParseRange(x.Header.Get("Range"), l.rec.Length)
	if use == httpcache.RangeNone || !httpcache.RangeApplies(x.Header, whole.Header, time.Now()) {
		return whole
	}
	resp := &mesh.Response{Status: whole.Status, Member: whole.Member}
	header, ok := c.serveRange(x, l, resp, append(mesh.Header(nil), whole.Header...), spans)
	if !ok {
		return whole
	}
	header.Del("Content-Length")
	resp.Header = header
	return resp
}

// failed answers when the origin can't be reached: with a stored response if that is allowed (RFC 9111 §4.2.4), else
// with err.
func (c *serving) failed(x *exchange.Exchange, before *lookup, err error) (*mesh.Response, error) {
	if resp := c.serveStale(x, before, 0); resp != nil {
		return resp, nil
	}
	if before.hit && before.rec.Stored.Flags.Has(httpcache.NoStale) {
		return nil, node.Errorf(node.CodeTimeout, err,
			"the stored response must be validated, and its origin can't be reached")
	}
	return nil, err
}

// serveStale answers with the stored response in place of the origin's error. Status 0 means that the origin didn't
// answer. serveStale returns nil if the stored response may not be used.
func (c *serving) serveStale(x *exchange.Exchange, l *lookup, status int) *mesh.Response {
	if !l.mayServeStale(status) {
		return nil
	}
	detail := "stale-if-error"
	if status == 0 {
		detail = "origin-unreachable"
	}
	l.now = time.Now()
	resp := c.serve(x, l, httpcache.Status{Hit: true, Detail: detail})
	if resp != nil {
		c.stats.staleErrors.Add(1)
	}
	return resp
}

// mayServeStale reports whether the stored response may be served in place of an error (RFC 5861 §4, RFC 9111 §4.2.4).
// It may not if a purge has reached it since, or if this node may have missed a purge.
func (l *lookup) mayServeStale(status int) bool {
	return l.hit && l.c.leased() && l.c.store.Judge(&l.view.Scope, keyURL(l.key)) != kvcache.Invalid &&
		l.rec.Stored.ServesError(status, status == 0, time.Now())
}

// forward sends the client's own request to the origin. Others don't wait for it. Its response is stored if it may be.
func (c *Policy) forward(ctx context.Context, x *exchange.Exchange, l *lookup, why httpcache.Reason) (*mesh.Response,
	error,
) {
	c.stats.bypassed.Add(1)
	c.normalise(x)
	began := c.begin()
	resp, done, err := c.forwardOrStale(ctx, x, l)
	if done {
		return resp, err
	}
	status := httpcache.Status{Fwd: l.fwd(), Detail: string(why)}
	if resp.Status != http.StatusNotModified && resp.Stream == nil {
		a := c.admit(x, resp, began)
		switch {
		case a.reason != "":
		case resp.Status == http.StatusPartialContent:
			status.Stored = c.putPart(x, l, a, resp)
		default:
			c.put(x, l, a, resp)
			status.Stored = true
		}
	}
	c.writeStatus(x, resp, status)
	return resp, nil
}

// withContent forwards a request with its body. The response is for this client alone.
func (c *Policy) withContent(ctx context.Context, x *exchange.Exchange, l *lookup) (*mesh.Response, error) {
	c.stats.bypassed.Add(1)
	c.normalise(x)
	resp, done, err := c.forwardOrStale(ctx, x, l)
	if done {
		return resp, err
	}
	if l.crossOrigin {
		c.fetchCrossOrigin(x, l)
	}
	c.writeStatus(x, resp, httpcache.Status{Fwd: l.fwd(), Detail: string(reasonContent)})
	return resp, nil
}

// fromBucket answers with a fresh response that is in the bucket but not in memory, or returns nil.
func (c *Policy) fromBucket(ctx context.Context, x *exchange.Exchange, before *lookup) *mesh.Response {
	if !before.leased || before.uncacheable || before.withheld != "" {
		return nil
	}
	c.load(ctx, x, before)
	l := c.look(x)
	defer l.release()
	if !l.hit || l.use(x) != httpcache.UseFresh {
		return nil
	}
	return c.serve(x, l, httpcache.Status{Hit: true, Detail: "bucket"})
}

// forwardOrStale forwards a request. done means that the answer is final: a stored response is served in place of the
// origin's error, or there is no response. Otherwise the caller goes on with the origin's response.
func (c *Policy) forwardOrStale(ctx context.Context, x *exchange.Exchange, l *lookup) (resp *mesh.Response, done bool,
	err error,
) {
	resp, err = c.next(ctx, x)
	switch {
	case err != nil && noAnswer(err):
		resp, err = c.failed(x, l, err)
		return resp, true, err
	case err != nil:
		return nil, true, err
	}
	if stored := c.serveStale(x, l, resp.Status); stored != nil {
		exchange.CloseBody(resp)
		return stored, true, nil
	}
	return resp, false, nil
}

// noAnswer reports whether an error means that no origin answered.
func noAnswer(err error) bool {
	switch node.CodeOf(err) { //nolint:exhaustive // the others are about the request
	case node.CodeUpstream, node.CodeNoMember, node.CodeNoTarget, node.CodeUnavailable, node.CodeTimeout,
		node.CodeBadReply:
		return true
	}
	return false
}

// fwd returns why a request is forwarded, in the words of Cache-Status.
func (l *lookup) fwd() string {
	switch {
	case l.crossOrigin:
		return httpcache.FwdVary
	case l.hit && l.rec.Stored.Flags.Has(httpcache.Partial):
		return httpcache.FwdPartial
	case l.hit && l.c.cfg.RequestDirectives && l.leased &&
		l.rec.Stored.Judge(nil, l.now, l.valid == kvcache.Stale) == httpcache.UseFresh:
		return httpcache.FwdRequest
	case l.hit:
		return httpcache.FwdStale
	case l.vary != "":
		return httpcache.FwdVary
	}
	return httpcache.FwdURIMiss
}

// detach returns a copy of the lookup for a fetch. The copy has its own keys and its own view of the stored response.
func (l *lookup) detach() *lookup {
	d := &lookup{
		c: l.c, vary: l.vary, ids: l.ids, hit: l.hit, crossOrigin: l.crossOrigin, discarded: l.discarded,
		leased: l.leased, valid: l.valid, now: l.now,
	}
	d.primary = append([]byte(nil), l.primary...)
	d.key = append([]byte(nil), l.key...)
	if !l.hit || !l.c.store.Get(d.key, &d.view) || d.rec.Decode(d.view.Value) != nil ||
		d.rec.Kind != httpcache.KindResponse {
		d.view.Release()
		d.hit = false
	}
	return d
}

var errPanicked = node.Errorf(node.CodeInternal, errors.New("a fetch for the cache panicked"),
	"the request failed inside the gateway")
