package edge

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

	"millrace/kvcache/limit"
	"millrace/mesh"
	"millrace/node"
)

// limited is the limits of one route, made new with the settings.
type limited struct {
	s      *Server
	route  *route
	limits []*routeLimit
	next   Handler
}

// routeLimit is one limit as a route uses it. What it counts is the rule's business, which other routes may share.
type routeLimit struct {
	node.Limit

	rule  *limit.Rule
	event string // subject of events
	form  limitForm
}

// counts reports whether some limit counts by a request field of that name.
func (l *limited) counts(name string) bool {
	for _, lim := range l.limits {
		for _, part := range lim.Key {
			if part.Kind == node.KeyHeader && equalFold(part.Name, name) {
				return true
			}
		}
	}
	return false
}

// pass is what an exchange got from one limit.
type pass struct {
	limit    *routeLimit
	key      limit.Key
	decision limit.Decision
	at       time.Time // of the decision
}

// newLimited makes the policy of a route with limits.
func (s *Server) newLimited(r *route, next Handler) *limited {
	l := &limited{s: s, route: r, next: next}
	for i, use := range r.Limit {
		rule := s.cfg.Limits.Rule(r.LimitID(i))
		if rule == nil { // the configuration was checked, and the limiter has its rules before the edge
			continue
		}
		resolved := use.Resolve(map[string]node.Limit{use.Use: rule.Limit})
		l.limits = append(l.limits, &routeLimit{
			Limit: resolved, rule: rule, event: "event.limit." + rule.Name,
			form: newLimitForm(rule.Name, resolved),
		})
	}
	return l
}

// handle lets a request pass if all limits do, and tells the client what is left of them.
func (l *limited) handle(ctx context.Context, x *Exchange) (resp *mesh.Response, err error) {
	if resp, err = l.count(ctx, x); err != nil || resp != nil {
		return resp, err
	}
	err = errPanicked // unless next returns: then nobody else would free the places
	defer func() {
		l.settle(x, resp, err)
		if resp != nil {
			x.limitFields(&resp.Header)
		}
	}()
	resp, err = l.next(ctx, x)
	return resp, err
}

// count asks the limits one after another, but for those that have let the request pass quickly. If one refuses, those
// before it get back what they have given.
func (l *limited) count(ctx context.Context, x *Exchange) (refusal *mesh.Response, err error) {
	limits := l.limits
	if n := len(x.passed); n > 0 {
		limits = limits[slices.Index(limits, x.passed[n-1].limit)+1:]
	} else {
		x.passed = x.passedRoom[:0]
	}
	for _, lim := range limits {
		p, counts := lim.pass(x)
		if !counts {
			continue
		}
		if refusal, err = l.ask(ctx, x, &p); err != nil || refusal != nil {
			x.uncount()
			return refusal, err
		}
	}
	return nil, nil
}

// ask asks one limit.
func (l *limited) ask(ctx context.Context, x *Exchange, p *pass) (refusal *mesh.Response, err error) {
	if !p.try(time.Now()) {
		if p.limit.Mode == node.LimitModeQueue {
			if err := x.attend(); err != nil {
				return nil, err
			}
		}
		p.decision, err = p.limit.rule.Take(ctx, p.key, p.limit.cost())
		p.at = time.Now()
	}
	return l.judge(x, *p, err)
}

// try asks for permits that are in memory.
func (p *pass) try(now time.Time) (ok bool) {
	p.at = now
	p.decision, ok = p.limit.rule.Try(now, p.key, p.limit.cost())
	return ok
}

// attend looks for the client's end while the request waits for its turn, if all of the request is here.
func (x *Exchange) attend() error {
	switch {
	case x.Incoming == nil || x.Socket:
	case x.Length == 0:
		x.watch()
	case x.Incoming.Arrived():
		err := x.readBody()
		x.Incoming = nil // there is nothing left to take
		return err
	}
	return nil
}

func (r *routeLimit) cost() uint32 { return uint32(r.Cost) } //nolint:gosec // G115: validated

// judge keeps a decision that lets the request pass, and refuses it otherwise.
func (l *limited) judge(x *Exchange, p pass, err error) (*mesh.Response, error) {
	switch lim := p.limit; {
	case err == nil && p.decision.Allowed:
		x.passed = append(x.passed, p)
		return nil, nil
	case errors.Is(err, limit.ErrQueueFull), err == nil:
		l.tell(x, lim)
		if lim.Shadow {
			lim.rule.Shadowed()
			return nil, nil
		}
		return x.overLimit(p), nil
	case errors.Is(err, context.Canceled):
		return nil, node.Errorf(node.CodeCanceled, err, "the client went away while its request waited for its turn")
	case lim.Shadow || lim.StoreAway == node.StoreAwayOpen:
		return nil, nil
	}
	return nil, node.Errorf(node.CodeUnavailable, err, "the rate limit can't be checked at the moment")
}

// quickly counts a request that can be answered at once, if the permits for it are in memory. If some aren't, count
// goes on with those.
func (l *limited) quickly(x *Exchange) bool {
	x.passed = x.passedRoom[:0]
	for _, lim := range l.limits {
		p, counts := lim.pass(x)
		if !counts {
			continue
		}
		if !p.try(x.Started) { // which is now
			return false
		}
		x.passed = append(x.passed, p)
	}
	return true
}

// pass finds the key of an exchange, and reports whether the limit counts it.
func (r *routeLimit) pass(x *Exchange) (pass, bool) {
	for i := range r.Exempt.Clients {
		if r.Exempt.Clients[i].Contains(x.Client) {
			return pass{}, false
		}
	}
	for i := range r.Exempt.Paths {
		if r.Exempt.Paths[i].Matches(x.Path) {
			return pass{}, false
		}
	}
	var room [96]byte
	key := r.client(room[:0], x)
	if len(r.Exempt.Keys) > 0 && slices.Contains(r.Exempt.Keys, string(key)) {
		return pass{}, false
	}
	return pass{limit: r, key: r.rule.Key(key)}, true
}

// client writes whose requests are counted together. A request that lacks a part counts by its address.
func (r *routeLimit) client(b []byte, x *Exchange) []byte {
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
			value = meant(x.param(part.Name))
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

// uncount gives back what the limits have given.
func (x *Exchange) uncount() {
	now := time.Now()
	for i := range x.passed {
		x.passed[i].back(now)
	}
	x.passed = x.passed[:0]
}

func (p *pass) back(now time.Time) {
	if p.limit.rule.Occupies() {
		p.limit.rule.Leave(p.key, p.limit.cost())
		return
	}
	p.limit.rule.Refund(now, p.key, p.decision, p.limit.cost())
}

// settle does what is due when the response is known: places become free when it is over, and some responses don't
// count.
func (l *limited) settle(x *Exchange, resp *mesh.Response, err error) {
	status := http.StatusInternalServerError
	if err != nil {
		status = statusOf(node.CodeOf(err))
	} else if resp != nil {
		status = resp.Status
	}
	now := time.Now()
	streams := resp != nil && resp.Stream != nil
	var leave []pass
	for i := range x.passed {
		p := &x.passed[i]
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
func (l *limited) tell(x *Exchange, lim *routeLimit) {
	l.s.mesh.Emit(lim.event, func() []byte {
		b, err := json.Marshal(limitEvent{
			Time: x.Started, Node: l.s.cfg.Node, Limit: lim.rule.Name, Route: l.route.id, Client: x.Client.String(),
			Method: x.Method, Path: x.Path,
			Shadow: lim.Shadow, ID: x.ID,
		})
		if err != nil { // strings and a time always marshal
			return []byte(`{}`)
		}
		return b
	})
}

// explain lists the limits that count a request.
func (l *limited) explain(x *Exchange) []LimitInfo {
	if l == nil {
		return nil
	}
	var out []LimitInfo
	for _, lim := range l.limits {
		if _, counts := lim.pass(x); !counts {
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
		out = append(out, LimitInfo{lim.rule.Name, text, strings.Join(key, ", ")})
	}
	return out
}
