package ratelimit

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"millrace/edge/exchange"
	"millrace/kvcache/limit"
	"millrace/mesh"
	"millrace/node"
)

// Config is what New needs beside the route.
type Config struct {
	Limiter *limit.Limiter // must have the rules of the routes before New
	Node    string         // name of the node, for events
	Mesh    *mesh.Conn     // for events of refusals
}

// Policy holds the limits of one route.
type Policy struct {
	cfg    Config
	route  *exchange.Route
	limits []*routeLimit
	next   exchange.Handler
}

// Of returns the limits of a route, or nil if it has none.
func Of(r *exchange.Route) *Policy { return exchange.Of[*Policy](r) }

// routeLimit is one limit as a route uses it. Its rule does the counting; other routes may share the rule.
type routeLimit struct {
	node.Limit

	rule  *limit.Rule
	event string // subject of events
	form  limitForm
}

// reads reports whether the key of some limit has the request field of that name.
func (l *Policy) reads(name string) bool {
	for _, lim := range l.limits {
		for _, part := range lim.Key {
			if part.Kind == node.KeyHeader && node.SameName(part.Name, name) {
				return true
			}
		}
	}
	return false
}

// New returns the policy of a route with limits.
func New(cfg Config, r *exchange.Route) exchange.Policy {
	l := &Policy{cfg: cfg, route: r}
	for i, use := range r.Limit {
		rule := cfg.Limiter.Rule(r.LimitID(i))
		if rule == nil { // can't happen: the configuration is valid, and the limiter gets its rules first
			continue
		}
		resolved := use.Resolve(map[string]node.Limit{use.Use: rule.Limit})
		l.limits = append(l.limits, &routeLimit{
			Limit: resolved, rule: rule, event: "event.limit." + rule.Name,
			form: newLimitForm(rule.Name, resolved),
		})
	}
	return exchange.Policy{Name: "limit", Wrap: l.wrap, Short: l.short(), Reads: l.reads, Value: l}
}

func (l *Policy) wrap(next exchange.Handler) exchange.Handler {
	l.next = next
	return l.handle
}

// short is the policy's part on the short way of a hit.
func (l *Policy) short() *exchange.Short {
	return &exchange.Short{Enter: l.countFromMemory, Leave: l.leave, Cancel: func(x *exchange.Exchange) {
		grantsOf(x).giveBackAll()
	}}
}

// leave settles the grants of a request on the short way and adds the fields.
func (l *Policy) leave(x *exchange.Exchange, resp *mesh.Response) {
	l.settle(x, resp, nil)
	grantsOf(x).appendFields(&resp.Header)
}

// errPanicked is the result of a handler that panicked.
var errPanicked = node.Errorf(node.CodeInternal, nil, "the request failed inside the gateway")

// handle calls the next handler if all limits allow it, and adds the fields to the response or error.
func (l *Policy) handle(ctx context.Context, x *exchange.Exchange) (resp *mesh.Response, err error) {
	if resp, err = l.count(ctx, x); err != nil || resp != nil {
		return resp, err
	}
	err = errPanicked // remains if next panics; the deferred function must free slots then too
	defer func() {
		l.settle(x, resp, err)
		if resp != nil {
			grantsOf(x).appendFields(&resp.Header)
			return
		}
		var fields mesh.Header
		grantsOf(x).appendFields(&fields)
		err = exchange.WithFields(err, fields)
	}()
	resp, err = l.next(ctx, x)
	return resp, err
}

// count takes a grant from one limit after another. It skips the limits that granted the request on the short way. If a
// limit refuses, all grants are given back.
func (l *Policy) count(ctx context.Context, x *exchange.Exchange) (refusal *mesh.Response, err error) {
	limits, g := l.limits, grantsOf(x)
	if n := len(g.list); n > 0 {
		limits = limits[slices.Index(limits, g.list[n-1].limit)+1:]
	} else {
		g.list = g.scratch[:0]
	}
	for _, lim := range limits {
		gr, counts := lim.grant(x)
		if !counts {
			continue
		}
		if refusal, err = l.take(ctx, x, &gr); err != nil || refusal != nil {
			g.giveBackAll()
			return refusal, err
		}
	}
	return nil, nil
}

// take takes a grant from one limit, or returns the refusal. It may wait for the store, or for the request's turn.
func (l *Policy) take(ctx context.Context, x *exchange.Exchange, gr *grant) (refusal *mesh.Response, err error) {
	if !gr.try(time.Now()) {
		if gr.limit.Mode == node.LimitModeQueue {
			if err := watchClient(x); err != nil {
				return nil, err
			}
		}
		gr.decision, err = gr.limit.rule.Take(ctx, gr.key, gr.limit.cost())
		gr.at = time.Now()
	}
	return l.decide(x, *gr, err)
}

// try takes permits that are in memory. ok is false if they aren't: then Take must decide.
func (gr *grant) try(now time.Time) (ok bool) {
	gr.at = now
	gr.decision, ok = gr.limit.rule.Try(now, gr.key, gr.limit.cost())
	return ok
}

// watchClient starts to detect that the client disconnects while its request waits for its turn. That needs the whole
// request: if the body hasn't arrived, watchClient does nothing.
func watchClient(x *exchange.Exchange) error {
	switch {
	case x.Incoming == nil || x.Upgrade.Socket:
	case x.Length == 0:
		x.Watch()
	case x.Incoming.Arrived():
		err := x.ReadBody()
		x.Incoming = nil // all has been read
		return err
	}
	return nil
}

func (r *routeLimit) cost() uint32 { return uint32(r.Cost) } //nolint:gosec // G115: validated

// decide acts on the result of Take or Try: it keeps a grant, or returns the refusal or the error. A nil response and a
// nil error mean that the request may go on.
func (l *Policy) decide(x *exchange.Exchange, gr grant, err error) (*mesh.Response, error) {
	switch lim := gr.limit; {
	case err == nil && gr.decision.Allowed:
		g := grantsOf(x)
		g.list = append(g.list, gr)
		return nil, nil
	case errors.Is(err, limit.ErrQueueFull), err == nil:
		l.emitRefusal(x, lim)
		if lim.Shadow {
			lim.rule.Shadowed()
			return nil, nil
		}
		return overLimit(x, gr), nil
	case errors.Is(err, context.Canceled):
		return nil, node.Errorf(node.CodeCanceled, err, "the client went away while its request waited for its turn")
	case lim.Shadow || lim.StoreAway == node.StoreAwayOpen:
		return nil, nil
	}
	return nil, node.Errorf(node.CodeUnavailable, err, "the rate limit can't be checked at the moment")
}

// countFromMemory counts a request on the short way. It returns false at the first limit whose permits aren't in
// memory; the request then goes the full way, where count goes on with that limit.
func (l *Policy) countFromMemory(x *exchange.Exchange) bool {
	g := grantsOf(x)
	g.list = g.scratch[:0]
	for _, lim := range l.limits {
		gr, counts := lim.grant(x)
		if !counts {
			continue
		}
		if !gr.try(x.Started) { // which is now
			return false
		}
		g.list = append(g.list, gr)
	}
	return true
}

// grant returns a grant with the key of the exchange but no decision yet, and whether the limit counts the exchange.
func (r *routeLimit) grant(x *exchange.Exchange) (grant, bool) {
	for i := range r.Exempt.Clients {
		if r.Exempt.Clients[i].Contains(x.Client) {
			return grant{}, false
		}
	}
	for i := range r.Exempt.Paths {
		if r.Exempt.Paths[i].Matches(x.Path) {
			return grant{}, false
		}
	}
	var scratch [96]byte
	key := r.appendKey(scratch[:0], x)
	if len(r.Exempt.Keys) > 0 && slices.Contains(r.Exempt.Keys, string(key)) {
		return grant{}, false
	}
	return grant{limit: r, key: r.rule.Key(key)}, true
}

// appendKey appends the key whose requests are counted together. The client's address replaces a part that the request
// lacks.
func (r *routeLimit) appendKey(b []byte, x *exchange.Exchange) []byte {
	for i, part := range r.Key {
		if i > 0 {
			b = append(b, '|')
		}
		value, found := "", true
		switch part.Kind {
		case node.KeyAll:
			continue
		case node.KeyIP:
			b = r.AppendAddress(b, x.Client)
			continue
		case node.KeyHeader, node.KeyCookie:
			value, found = node.RequestPart{Cookie: part.Kind == node.KeyCookie, Name: part.Name}.Of(x.Header)
		case node.KeyParam:
			value = unescaped(x.Param(part.Name))
		}
		if !found {
			b = r.AppendAddress(append(b, 0), x.Client) // no field's value has this byte, so the key can't be forged
			continue
		}
		b = append(b, value...)
	}
	return b
}

// unescaped decodes a part of the path: %40 and @ mean the same to the target, so both spellings count together.
func unescaped(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	decoded, err := url.PathUnescape(s)
	if err != nil { // canonical paths have no broken escapes
		return s
	}
	return decoded
}

// settle ends the grants when the response is known. Slots are freed: at once, or at the end of a response that
// streams. Permits are given back if the limit doesn't count responses of this status.
func (l *Policy) settle(x *exchange.Exchange, resp *mesh.Response, err error) {
	status := http.StatusInternalServerError
	if err != nil {
		status = exchange.StatusOf(node.CodeOf(err))
	} else if resp != nil {
		status = resp.Status
	}
	now := time.Now()
	streams := resp != nil && resp.Stream != nil
	var held []grant
	g := grantsOf(x)
	for i := range g.list {
		gr := &g.list[i]
		gr.decision.Reset, gr.at = gr.decision.Reset-now.Sub(gr.at), now
		failed := status >= http.StatusBadRequest
		switch lim := gr.limit; {
		case lim.rule.Occupies() && streams:
			held = append(held, *gr)
		case lim.rule.Occupies():
			gr.giveBack(now)
		case (failed && lim.SkipFailed) || (!failed && lim.SkipSuccessful):
			gr.giveBack(now)
			gr.decision.Remaining += lim.cost()
		}
	}
	if len(held) == 0 {
		return
	}
	resp.Stream = &slotBody{resp.Stream, resp.Length, sync.OnceFunc(func() {
		for i := range held {
			held[i].giveBack(time.Time{}) // slots need no time
		}
	})}
}

// slotBody is a response's stream that holds slots. It frees them before it returns the last bytes or the end, so
// that a client that has seen the end of the response can send its next request.
type slotBody struct {
	mesh.Body

	left int64 // bytes that are still to come; negative if the length isn't known
	free func()
}

func (o *slotBody) Next() (mesh.Piece, error) {
	p, err := o.Body.Next()
	if o.left -= int64(len(p.Data)); err != nil || o.left == 0 {
		o.free()
	}
	return p, err
}

func (o *slotBody) Close() error {
	o.free()
	return o.Body.Close()
}

// limitEvent is the event of a refusal, as JSON.
type limitEvent struct {
	Time   time.Time `json:"time"`
	Node   string    `json:"node"`
	Limit  string    `json:"limit"`
	Route  string    `json:"route"`
	Client string    `json:"client"`
	Method string    `json:"method"`
	Path   string    `json:"path"`
	Shadow bool      `json:"shadow,omitempty"`
	ID     string    `json:"request_id"`
}

// emitRefusal sends the event of a refusal, if somebody subscribes to it.
func (l *Policy) emitRefusal(x *exchange.Exchange, lim *routeLimit) {
	l.cfg.Mesh.Emit(lim.event, func() []byte {
		b, err := json.Marshal(limitEvent{
			Time: x.Started, Node: l.cfg.Node, Limit: lim.rule.Name, Route: l.route.ID, Client: x.Client.String(),
			Method: x.Method, Path: x.Path,
			Shadow: lim.Shadow, ID: x.ID,
		})
		if err != nil { // strings and a time always marshal
			return []byte(`{}`)
		}
		return b
	})
}

// Info describes a limit that counts a request.
type Info struct {
	Name string `json:"name"`
	Text string `json:"limit"` // such as 100 per 15m, or 20 in flight
	Key  string `json:"key"`   // whose requests are counted together, such as ip
}

// Explain lists the limits that count a request. l may be nil.
func (l *Policy) Explain(x *exchange.Exchange) []Info {
	if l == nil {
		return nil
	}
	var out []Info
	for _, lim := range l.limits {
		if _, counts := lim.grant(x); !counts {
			continue
		}
		text := strconv.Itoa(lim.Max) + " per " + lim.Window.String()
		if lim.rule.Occupies() {
			text = strconv.Itoa(lim.Max) + " in flight"
		}
		var key []string
		for _, part := range lim.Key {
			key = append(key, part.String())
		}
		out = append(out, Info{lim.rule.Name, text, strings.Join(key, ", ")})
	}
	return out
}
