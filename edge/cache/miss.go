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

// miss gets a response that the memory hasn't, or not in a state to be served.
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
	case l.pass:
		return c.alone(ctx, x, l, httpcache.Reason(l.why))
	case l.barred != "": // nor must it drive out what is there for others
		return c.alone(ctx, x, l, l.barred)
	}
	c.hint(x, l)
	return c.collapse(ctx, x, l)
}

// collapse waits for the fetch of the same that runs, or begins one. The fetch isn't ended by its client's going away.
func (c *Policy) collapse(ctx context.Context, x *exchange.Exchange, l *lookup) (*mesh.Response, error) {
	if x.Incoming != nil {
		x.Watch()
	}
	flight, g, leads := c.join(x, l)
	var mine chan result
	if g != nil {
		return c.follow(x, g, true), nil
	}
	if leads {
		mine = make(chan result, 1)
		d := detach(x)
		early := relayInterim(d, x.Interim)
		go c.lead(c.fetching(ctx), flight, d, l.detach(), mine)
		for {
			select {
			case hint := <-early:
				x.Interim(hint.status, hint.header)
			case out := <-mine:
				for len(early) > 0 { // they came before it
					hint := <-early
					x.Interim(hint.status, hint.header)
				}
				return c.took(ctx, x, l, out, false)
			case <-ctx.Done():
				// the fetch goes on, but for a body that only its client wanted
				go func() { exchange.CloseBody(responseOf(<-mine)) }()
				return nil, exchange.Ended(ctx)
			}
		}
	}
	out, ok := flight.Wait(ctx, maxWait(x))
	switch {
	case ctx.Err() != nil:
		return nil, exchange.Ended(ctx)
	case !ok:
		return c.alone(ctx, x, l, "slow")
	}
	return c.took(ctx, x, l, out, true)
}

// fetching is the context of a fetch for others too, who mustn't lose it with the client that began it.
func (c *fetcher) fetching(ctx context.Context) context.Context {
	if c.tied {
		return ctx
	}
	return context.Background()
}

// interim is an interim response on its way from a fetch to its client.
type interim struct {
	status int
	header mesh.Header
}

// relays lets a fetch hand interim responses to the one that waits for it, who alone may write to the client. What
// nobody takes in time is dropped: they are hints.
func relayInterim(x *exchange.Exchange, to func(int, mesh.Header)) <-chan interim {
	if to == nil {
		return nil
	}
	early := make(chan interim, node.MaxInterim)
	x.Interim = func(status int, h mesh.Header) {
		select {
		case early <- interim{status, h}:
		default:
		}
	}
	return early
}

// took answers with what a fetch has brought. Those who waited look again, so that validity, variant and freshness are
// judged for each of them.
func (c *Policy) took(ctx context.Context, x *exchange.Exchange, before *lookup, out result, waited bool,
) (*mesh.Response, error) {
	switch out := out.(type) {
	case growingResult:
		if !waited || out.fits(&c.writing, x) {
			return c.follow(x, out.growing, waited), nil
		}
	case ownResult:
		return c.own(x, out.resp, out.status)
	case storedResult:
		if out.own != nil {
			return c.own(x, out.own, out.status)
		}
		return c.lookAgain(ctx, x, before, out, waited)
	case failedResult:
		return c.failed(x, before, out.err)
	case retryResult:
		if time.Since(x.Started) < x.Timeout()/4 {
			return c.again(ctx, x, before)
		}
	}
	return c.alone(ctx, x, before, "not-shared")
}

// lookAgain answers with what a fetch has stored, if it is good enough for the request.
func (c *Policy) lookAgain(ctx context.Context, x *exchange.Exchange, before *lookup, out storedResult, waited bool,
) (*mesh.Response, error) {
	l := c.look(x)
	defer l.release()
	if l.hit && (!waited || out.anyway || l.use(x) == httpcache.UseFresh || l.use(x) == httpcache.UseRefresh) {
		out.status.Collapsed = waited
		if resp := c.serve(x, l, out.status); resp != nil {
			return resp, nil
		}
		waited = true // what was there isn't any more
	}
	if waited && !l.pass {
		return c.again(ctx, x, l)
	}
	return c.alone(ctx, x, before, "not-shared")
}

// again is for a request that waited for another variant, or for a fetch that failed another request: it may wait once
// more, for its own.
func (c *Policy) again(ctx context.Context, x *exchange.Exchange, l *lookup) (*mesh.Response, error) {
	if scratchOf(x).waited++; scratchOf(x).waited > 2 {
		return c.alone(ctx, x, l, "not-shared")
	}
	return c.collapse(ctx, x, l)
}

// own gives the response to the one that fetched it. What its client asked for is judged here, since the fetch asked
// for all.
func (c *serving) own(x *exchange.Exchange, resp *mesh.Response, status httpcache.Status) (*mesh.Response, error) {
	request := &httpcache.Request{Method: x.Method, Header: x.Header}
	switch {
	case resp.Stream != nil:
	case httpcache.NotModified(request, resp.Status, resp.Header, time.Now()):
		resp = &mesh.Response{
			Status: http.StatusNotModified, Header: httpcache.NotModifiedHeader(resp.Header),
			Member: resp.Member,
		}
	case ranged(x) && resp.Status == http.StatusOK:
		resp = c.cut(x, resp)
	}
	c.tell(x, resp, status)
	return resp, nil
}

// cut gives the ranges of a whole response that the exchange asks for, or the whole.
func (c *serving) cut(x *exchange.Exchange, whole *mesh.Response) *mesh.Response {
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

// failed answers when the origin can't be reached: with what is stored, if that is allowed (RFC 9111 §4.2.4).
func (c *serving) failed(x *exchange.Exchange, before *lookup, err error) (*mesh.Response, error) {
	if resp := c.standIn(x, before, 0); resp != nil {
		return resp, nil
	}
	if before.hit && before.rec.Stored.Flags.Has(httpcache.NoStale) {
		return nil, node.Errorf(node.CodeTimeout, err,
			"the stored response must be validated, and its origin can't be reached")
	}
	return nil, err
}

// standIn answers with what is stored in place of the origin's error, or of its silence, which is status 0. Nil means
// that it may not.
func (c *serving) standIn(x *exchange.Exchange, l *lookup, status int) *mesh.Response {
	if !l.standsIn(status) {
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

// standsIn reports whether what was found may stand in for an error (RFC 5861 §4, RFC 9111 §4.2.4). A purge may have
// reached it since, or may have without this node's hearing of it.
func (l *lookup) standsIn(status int) bool {
	return l.hit && l.c.leased() && l.c.store.Judge(&l.view.Scope, keyURL(l.key)) != kvcache.Invalid &&
		l.rec.Stored.ServesError(status, status == 0, time.Now())
}

// alone sends the client's own request on, without others waiting. If its response may be stored, it is.
func (c *Policy) alone(ctx context.Context, x *exchange.Exchange, l *lookup, why httpcache.Reason) (*mesh.Response,
	error,
) {
	c.stats.bypassed.Add(1)
	c.normalise(x)
	began := c.begin()
	resp, done, err := c.single(ctx, x, l)
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
	c.tell(x, resp, status)
	return resp, nil
}

// withContent sends a request on with its body. Its response is for this client alone.
func (c *Policy) withContent(ctx context.Context, x *exchange.Exchange, l *lookup) (*mesh.Response, error) {
	c.stats.bypassed.Add(1)
	c.normalise(x)
	resp, done, err := c.single(ctx, x, l)
	if done {
		return resp, err
	}
	if l.alien {
		c.cross(x, l)
	}
	c.tell(x, resp, httpcache.Status{Fwd: l.fwd(), Detail: string(reasonContent)})
	return resp, nil
}

// fromBucket answers with a fresh response that the bucket has and the memory hasn't, or nil.
func (c *Policy) fromBucket(ctx context.Context, x *exchange.Exchange, before *lookup) *mesh.Response {
	if !before.leased || before.pass || before.barred != "" {
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

// single sends a request on for itself alone. done means that the answer is final: what is stored stands in for the
// origin, or there is none.
func (c *Policy) single(ctx context.Context, x *exchange.Exchange, l *lookup) (resp *mesh.Response, done bool,
	err error,
) {
	resp, err = c.next(ctx, x)
	switch {
	case err != nil && unreachable(err):
		resp, err = c.failed(x, l, err)
		return resp, true, err
	case err != nil:
		return nil, true, err
	}
	if stored := c.standIn(x, l, resp.Status); stored != nil {
		exchange.CloseBody(resp)
		return stored, true, nil
	}
	return resp, false, nil
}

// unreachable reports whether an error means that no origin answered.
func unreachable(err error) bool {
	switch node.CodeOf(err) { //nolint:exhaustive // the others are about the request
	case node.CodeUpstream, node.CodeNoMember, node.CodeNoTarget, node.CodeUnavailable, node.CodeTimeout,
		node.CodeBadReply:
		return true
	}
	return false
}

// fwd says why a request goes on, as Cache-Status tells it.
func (l *lookup) fwd() string {
	switch {
	case l.alien:
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

// detach gives the lookup to a fetch: it keeps what it needs, and looks the stored response up again.
func (l *lookup) detach() *lookup {
	d := &lookup{
		c: l.c, vary: l.vary, ids: l.ids, hit: l.hit, alien: l.alien, gone: l.gone, leased: l.leased, valid: l.valid,
		now: l.now,
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
