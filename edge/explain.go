package edge

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"millrace/edge/cache"
	"millrace/edge/exchange"
	"millrace/edge/ratelimit"
	"millrace/edge/site"
	"millrace/mesh"
	"millrace/node"
)

// RouteInfo describes one route that is served now.
type RouteInfo struct {
	Name    string        `json:"name"`
	Host    string        `json:"host,omitempty"`
	Methods []node.Method `json:"methods,omitempty"`
	Path    string        `json:"path"`
	Target  string        `json:"target"`
}

// Routes lists the routes that are served now, those of edge.expose included.
func (s *Server) Routes() []RouteInfo {
	set := s.settings.Load()
	out := make([]RouteInfo, 0, len(set.routes)+1)
	for _, r := range set.routes {
		out = append(out, RouteInfo{
			Name: r.ID, Host: string(r.Host), Methods: r.Methods, Path: r.Path.String(),
			Target: r.Describe(),
		})
	}
	if set.Exposed != nil {
		out = append(out, RouteInfo{Name: exposedID, Path: exposedPattern, Target: "service:{service}"})
	}
	return out
}

// exposedPattern is the path pattern of the route for edge.expose "*".
const exposedPattern = "/{service}/*"

// Explanation says how a request would be handled.
type Explanation struct {
	Method  string            `json:"method"`
	Host    string            `json:"host"`
	Path    string            `json:"path"`            // canonical
	Query   string            `json:"query,omitempty"` // with its question mark
	Route   string            `json:"route,omitempty"`
	Pattern string            `json:"pattern,omitempty"`
	Params  map[string]string `json:"params,omitempty"`
	Target  string            `json:"target,omitempty"`
	Subject string            `json:"subject,omitempty"`
	// somebody subscribes to the subject; missing if that isn't known
	Served *bool `json:"served,omitempty"`
	// exposed by expose: "*", but nobody has served it since the start: the answer is 404
	Unseen  bool       `json:"unseen,omitempty"`
	Carrier string     `json:"carrier,omitempty"` // memory or nats, at this moment
	Asks    string     `json:"asks,omitempty"`    // host and target after rewriting
	Calls   []CallInfo `json:"calls,omitempty"`
	Bound
	MaxBody string             `json:"max_body,omitempty"`
	Upgrade node.Protocols     `json:"upgrade,omitempty"` // beside WebSocket
	Status  int                `json:"status,omitempty"`  // of the refusal
	Refusal string             `json:"refusal,omitempty"`
	Limits  []ratelimit.Info   `json:"limits,omitempty"`
	Cache   *cache.Explanation `json:"cache,omitempty"`
	// what each site of the route has at the path, up to the one that answers
	Sites []site.Explanation `json:"sites,omitempty"`
	// the same path for other hosts, if it has another route there or is stored
	Also []HostExplanation `json:"also,omitempty"`
}

// CallInfo is a call that a gather makes.
type CallInfo struct {
	Name    string   `json:"name"`
	Target  string   `json:"target"`
	Subject string   `json:"subject"`
	Carrier string   `json:"carrier"`
	Path    string   `json:"path"`
	After   []string `json:"after,omitempty"`
	Bound
	Cached bool     `json:"cached,omitempty"`
	Limits []string `json:"limits,omitempty"`
}

// Bound says how long a request may take.
type Bound struct {
	Timeout      string `json:"timeout,omitempty"`
	TimeoutOf    string `json:"timeout_of,omitempty"`    // what sets it: route, call, or a key of the configuration
	RouteTimeout string `json:"route_timeout,omitempty"` // the route's own, if an upstream's is shorter

	within time.Duration
}

func bound(within time.Duration, of string) Bound {
	return Bound{Timeout: within.String(), TimeoutOf: of, within: within}
}

// narrow applies an upstream's own timeout, if it is shorter.
func (b *Bound) narrow(upstream string, own time.Duration) {
	if own > 0 && own < b.within {
		route := b.Timeout
		*b = bound(own, "upstreams."+upstream+".timeout")
		b.RouteTimeout = route
	}
}

// Narrow applies an upstream's own timeout, wherever the request or its calls would go to the upstream. e must come
// from Explain.
func (e *Explanation) Narrow(upstream string, own time.Duration) {
	target := node.Target{Kind: node.KindUpstream, Name: upstream}.String()
	if e.Target == target {
		e.narrow(upstream, own)
	}
	for i := range e.Calls {
		if e.Calls[i].Target == target {
			e.Calls[i].narrow(upstream, own)
		}
	}
}

// Asked lists the services and upstreams to which requests would go, as the configuration names them.
func (e *Explanation) Asked() (out []string) {
	for _, c := range e.Calls {
		out = append(out, c.Target)
	}
	return append(out, e.Target)
}

// explainOne is Explain for one host.
func (s *Server) explainOne(method, url string, header mesh.Header) Explanation {
	set := s.settings.Load()
	x := exchange.Imagine(&set.Settings, method, url, header)
	if x.Outcome.Refusal == nil {
		x.Route = set.find(x)
	}
	e := Explanation{Method: method, Host: x.Host, Path: x.Path, Query: x.Query}
	if x.Outcome.Refusal != nil {
		e.Status, e.Refusal = exchange.StatusOf(node.CodeOf(x.Outcome.Refusal)), x.Outcome.Refusal.Error()
		if e.Path == "" { // as received, since it has no canonical form
			e.Path = cmp.Or(cache.PathAndQuery(url), url)
		}
		return e
	}
	r := x.Route
	e.Route, e.Pattern, e.Target = r.ID, r.Path.String(), target(x)
	e.Bound, e.MaxBody = boundOf(x), x.MaxBody().String()
	e.Upgrade = r.Upgrade
	e.Subject = s.subject(x)
	e.Served = s.subscribed(x)
	if r == x.Settings.Exposed {
		e.Pattern = exposedPattern
		e.Unseen = e.Served != nil && !*e.Served && !s.seen.has(firstSegment(x.Path))
	}
	e.Asks = explainRewrite(x)
	e.Calls = s.explainCalls(r, e.Bound)
	if to, ok := s.destination(x); ok {
		e.Carrier = s.carrier(to)
	}
	e.Limits = ratelimit.Of(r).Explain(x)
	e.Sites = site.Of(r).Explain(x)
	e.Cache = s.cache.Explain(context.Background(), x)
	for i, name := range r.ParamNames {
		if e.Params == nil {
			e.Params = map[string]string{}
		}
		e.Params[name] = x.Params[i]
	}
	return e
}

// boundOf returns how long the request may take, without an upstream's own timeout.
func boundOf(x *exchange.Exchange) Bound {
	if x.Route.Timeout != 0 {
		return bound(x.Timeout(), "route")
	}
	return bound(x.Timeout(), "edge.timeout")
}

// destination returns the service or upstream to which the request would go. ok is false if there is none, or several,
// or a plain NATS subject.
func (s *Server) destination(x *exchange.Exchange) (to mesh.Destination, ok bool) {
	if x.Route == x.Settings.Exposed {
		return s.mesh.Service(firstSegment(x.Path)), true
	}
	origin := x.Route.Origin()
	if origin.Kind != node.KindService && origin.Kind != node.KindUpstream {
		return mesh.Destination{}, false
	}
	return destinationOf(s.mesh, origin), true
}

// carrier returns how a request would be carried at this moment: memory or nats.
func (s *Server) carrier(to mesh.Destination) string {
	if s.mesh.Near(to) {
		return "memory"
	}
	return "nats"
}

// explainCalls lists the calls of a gather by name.
func (s *Server) explainCalls(r *exchange.Route, routeBound Bound) (out []CallInfo) {
	if r.Gather == nil {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(r.Gather.Calls)) {
		c := r.Gather.Calls[name]
		subject, carrier := c.To.Subject.String(), "nats"
		if c.To.Kind != node.KindNATS {
			to := destinationOf(s.mesh, c.To)
			subject, carrier = to.Subject(), s.carrier(to)
		}
		info := CallInfo{
			Name: name, Target: c.To.String(), Subject: subject, Carrier: carrier, Path: c.Path.String(),
			After: c.After, Bound: routeBound, Cached: c.Cache != nil && c.Cache.On,
		}
		if own := c.Timeout.Std(); own > 0 && own < routeBound.within {
			info.Bound = bound(own, "call")
		}
		for _, l := range c.Limit {
			info.Limits = append(info.Limits, l.Use)
		}
		out = append(out, info)
	}
	return out
}

// explainRewrite returns the host and target after rewriting, or "" if the route rewrites nothing.
func explainRewrite(x *exchange.Exchange) string {
	w := x.Route.Rewrite
	if w == nil {
		return ""
	}
	host := x.Host
	if w.Host != "" {
		host = string(w.Host)
	}
	if err := rewrite(x, w); err != nil {
		return "none: " + err.Error()
	}
	return host + x.ForwardTarget()
}

// subject returns the subject on which the request would be published, or "" if there is none.
func (s *Server) subject(x *exchange.Exchange) string {
	if to, ok := s.destination(x); ok {
		return to.Subject()
	}
	origin := x.Route.Origin()
	if origin.Kind != node.KindNATS {
		return ""
	}
	subject, err := origin.Subject.Expand(x.Param)
	if err != nil {
		return "none: " + err.Error()
	}
	return s.mesh.PlainSubject(subject)
}
