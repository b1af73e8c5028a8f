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

// Config says what the limits of routes work with.
type Config struct {
	Limiter *limit.Limiter // it must know the rules before Policy
	Node    string         // name of the node, for events
	Mesh    *mesh.Conn     // tells observers of refusals
}

// Policy is the limits of one route, made new with the settings.
type Policy struct {
	cfg    Config
	route  *exchange.Route
	limits []*routeLimit
	next   exchange.Handler
}

// Of gives the limits of a route; nil if it has none.
func Of(r *exchange.Route) *Policy { return exchange.Of[*Policy](r) }

// routeLimit is one limit as a route uses it. What it counts is the rule's business, which other routes may share.
type routeLimit struct {
	node.Limit

	rule  *limit.Rule
	event string // subject of events
	form  limitForm
}

// counts reports whether some limit counts by a request field of that name.
func (l *Policy) counts(name string) bool {
	for _, lim := range l.limits {
		for _, part := range lim.Key {
			if part.Kind == node.KeyHeader && node.SameName(part.Name, name) {
				return true
			}
		}
	}
	return false
}

// New makes the policy of a route with limits: it refuses what is beyond them.
func New(cfg Config, r *exchange.Route) exchange.Policy {
	l := &Policy{cfg: cfg, route: r}
	for i, use := range r.Limit {
		rule := cfg.Limiter.Rule(r.LimitID(i))
		if rule == nil { // the configuration was checked, and the limiter has its rules before the edge
			continue
		}
		resolved := use.Resolve(map[string]node.Limit{use.Use: rule.Limit})
		l.limits = append(l.limits, &routeLimit{
			Limit: resolved, rule: rule, event: "event.limit." + rule.Name,
			form: newLimitForm(rule.Name, resolved),
		})
	}
	return exchange.Policy{Name: "limit", Wrap: l.wrap, Short: l.short(), Reads: l.counts, Value: l}
}

func (l *Policy) wrap(next exchange.Handler) exchange.Handler {
	l.next = next
	return l.handle
}

// short is the policy's part on the short way of a hit.
func (l *Policy) short() *exchange.Short {
	return &exchange.Short{Enter: l.countNow, Leave: l.leave, Cancel: func(x *exchange.Exchange) {
		grantsOf(x).giveBack()
	}}
}

// leave does what is due when a request on the short way has its response, and tells the client what is left.
func (l *Policy) leave(x *exchange.Exchange, resp *mesh.Response) {
	l.settle(x, resp, nil)
	grantsOf(x).appendFields(&resp.Header)
}

// errPanicked stands for a response that a panic has kept from coming.
var errPanicked = node.Errorf(node.CodeInternal, nil, "the request failed inside the gateway")

// handle lets a request pass if all limits do, and tells the client what is left of them.
func (l *Policy) handle(ctx context.Context, x *exchange.Exchange) (resp *mesh.Response, err error) {
	if resp, err = l.count(ctx, x); err != nil || resp != nil {
		return resp, err
	}
	err = errPanicked // unless next returns: then nobody else would free the places
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

// count asks the limits one after another, but for those that have let the request pass quickly. If one refuses, those
// before it get back what they have given.
func (l *Policy) count(ctx context.Context, x *exchange.Exchange) (refusal *mesh.Response, err error) {
	limits, g := l.limits, grantsOf(x)
	if n := len(g.list); n > 0 {
		limits = limits[slices.Index(limits, g.list[n-1].limit)+1:]
	} else {
		g.list = g.room[:0]
	}
	for _, lim := range limits {
		p, counts := lim.grant(x)
		if !counts {
			continue
		}
		if refusal, err = l.ask(ctx, x, &p); err != nil || refusal != nil {
			g.giveBack()
			return refusal, err
		}
	}
	return nil, nil
}

// ask asks one limit.
func (l *Policy) ask(ctx context.Context, x *exchange.Exchange, p *grant) (refusal *mesh.Response, err error) {
	if !p.try(time.Now()) {
		if p.limit.Mode == node.LimitModeQueue {
			if err := attend(x); err != nil {
				return nil, err
			}
		}
		p.decision, err = p.limit.rule.Take(ctx, p.key, p.limit.cost())
		p.at = time.Now()
	}
	return l.judge(x, *p, err)
}

// try asks for permits that are in memory.
func (p *grant) try(now time.Time) (ok bool) {
	p.at = now
	p.decision, ok = p.limit.rule.Try(now, p.key, p.limit.cost())
	return ok
}

// attend looks for the client's end while the request waits for its turn, if all of the request is here.
func attend(x *exchange.Exchange) error {
	switch {
	case x.Incoming == nil || x.Upgrade.Socket:
	case x.Length == 0:
		x.Watch()
	case x.Incoming.Arrived():
		err := x.ReadBody()
		x.Incoming = nil // there is nothing left to take
		return err
	}
	return nil
}

func (r *routeLimit) cost() uint32 { return uint32(r.Cost) } //nolint:gosec // G115: validated

// judge keeps a decision that lets the request pass, and refuses it otherwise.
func (l *Policy) judge(x *exchange.Exchange, p grant, err error) (*mesh.Response, error) {
	switch lim := p.limit; {
	case err == nil && p.decision.Allowed:
		g := grantsOf(x)
		g.list = append(g.list, p)
		return nil, nil
	case errors.Is(err, limit.ErrQueueFull), err == nil:
		l.tell(x, lim)
		if lim.Shadow {
			lim.rule.Shadowed()
			return nil, nil
		}
		return overLimit(x, p), nil
	case errors.Is(err, context.Canceled):
		return nil, node.Errorf(node.CodeCanceled, err, "the client went away while its request waited for its turn")
	case lim.Shadow || lim.StoreAway == node.StoreAwayOpen:
		return nil, nil
	}
	return nil, node.Errorf(node.CodeUnavailable, err, "the rate limit can't be checked at the moment")
}

// countNow counts a request on the short way, if the permits for it are in memory. If some aren't, count goes on with
// those.
func (l *Policy) countNow(x *exchange.Exchange) bool {
	g := grantsOf(x)
	g.list = g.room[:0]
	for _, lim := range l.limits {
		p, counts := lim.grant(x)
		if !counts {
			continue
		}
		if !p.try(x.Started) { // which is now
			return false
		}
		g.list = append(g.list, p)
	}
	return true
}

// grant finds the key of an exchange, and reports whether the limit counts it.
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
	var room [96]byte
	key := r.client(room[:0], x)
	if len(r.Exempt.Keys) > 0 && slices.Contains(r.Exempt.Keys, string(key)) {
		return grant{}, false
	}
	return grant{limit: r, key: r.rule.Key(key)}, true
}

// client writes whose requests are counted together. A request that lacks a part counts by its address.
func (r *routeLimit) client(b []byte, x *exchange.Exchange) []byte {
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
			value = meant(x.Param(part.Name))
		}
		if !found {
			b = r.AppendAddress(append(b, 0), x.Client) // no field's value begins so
			continue
		}
		b = append(b, value...)
	}
	return b
}

// meant is what a part of the path means: %40 is @ to whoever gets the request, so both spellings count together.
func meant(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	decoded, err := url.PathUnescape(s)
	if err != nil { // canonical paths have no broken escapes
		return s
	}
	return decoded
}

// settle does what is due when the response is known: places become free when it is over, and some responses don't
// count.
func (l *Policy) settle(x *exchange.Exchange, resp *mesh.Response, err error) {
	status := http.StatusInternalServerError
	if err != nil {
		status = exchange.StatusOf(node.CodeOf(err))
	} else if resp != nil {
		status = resp.Status
	}
	now := time.Now()
	streams := resp != nil && resp.Stream != nil
	var leave []grant
	g := grantsOf(x)
	for i := range g.list {
		p := &g.list[i]
		p.decision.Reset, p.at = p.decision.Reset-now.Sub(p.at), now
		failed := status >= http.StatusBadRequest
		switch lim := p.limit; {
		case lim.rule.Occupies() && streams:
			leave = append(leave, *p)
		case lim.rule.Occupies():
			p.back(now)
		case (failed && lim.SkipFailed) || (!failed && lim.SkipSuccessful):
			p.back(now)
			p.decision.Remaining += lim.cost()
		}
	}
	if len(leave) == 0 {
		return
	}
	resp.Stream = &occupying{resp.Stream, resp.Length, sync.OnceFunc(func() {
		for i := range leave {
			leave[i].back(time.Time{}) // places have no time
		}
	})}
}

// occupying is a response's stream that holds places until it is over. They are free before its client can see the end,
// and ask for the next.
type occupying struct {
	mesh.Body

	left int64 // bytes of an announced length
	free func()
}

func (o *occupying) Next() (mesh.Piece, error) {
	p, err := o.Body.Next()
	if o.left -= int64(len(p.Data)); err != nil || o.left == 0 {
		o.free()
	}
	return p, err //nolint:wrapcheck // io.EOF must stay itself
}

func (o *occupying) Close() error {
	o.free()
	return o.Body.Close() //nolint:wrapcheck // the body's own
}

// limitEvent is what observers get to know of a refusal.
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

// tell lets observers know of a refusal, if there are any.
func (l *Policy) tell(x *exchange.Exchange, lim *routeLimit) {
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

// Info is a limit that counts a request.
type Info struct {
	Name string `json:"name"`
	Text string `json:"limit"` // such as 100 per 15m, or 20 in flight
	Key  string `json:"key"`   // whose requests are counted together, such as ip
}

// Explain lists the limits that count a request. The policy may be nil.
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
