package edge

import (
	"net/http"
	"slices"
	"strings"

	"millrace/edge/exchange"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/http1"
)

// HostExplanation says in brief what would become of the same request for another host.
type HostExplanation struct {
	Host   string `json:"host"`
	Route  string `json:"route"`
	Target string `json:"target"`
	Cache  string `json:"cache,omitempty"` // the state of CacheExplanation
}

// Explain routes a request without sending it. target is a path or an absolute URL, as people write them. A path means
// every host that clients may ask for here: of those that differ, the one with most to tell is explained, and the
// others are named.
func (s *Server) Explain(method, target string, header mesh.Header) Explanation {
	t, err := http1.ReadTyped(target)
	if err != nil {
		return Explanation{Method: method, Path: target, Status: http.StatusBadRequest, Refusal: err.Error()}
	}
	target = t.Origin + t.Path + t.Query
	if !strings.HasPrefix(target, "/") || header.Has("Host") {
		return s.explainOne(method, target, header)
	}
	var list []Explanation
	for _, origin := range s.originsOf(s.settings.Load()) {
		list = append(list, s.explainOne(method, origin+target, slices.Clone(header)))
	}
	best := slices.MaxFunc(list, func(a, b Explanation) int { return tells(&a) - tells(&b) }) // of equals the first
	for i := range list {
		if e := &list[i]; e.Host != best.Host && e.Route != "" && (e.Route != best.Route || tells(e) > tellsRoute) {
			best.Also = append(best.Also, e.brief())
		}
	}
	return best
}

// How much an explanation tells.
const (
	tellsRefusal = iota
	tellsRoute
	tellsStored // the cache has, or had, something
)

func tells(e *Explanation) int {
	switch {
	case e.Refusal != "":
		return tellsRefusal
	case e.Cache == nil || e.Cache.State == "off" || e.Cache.State == "missing" || e.Cache.State == "bypass":
		return tellsRoute
	}
	return tellsStored
}

func (e *Explanation) brief() HostExplanation {
	out := HostExplanation{Host: e.Host, Route: e.Route, Target: e.Target}
	if e.Cache != nil && e.Cache.State != "off" {
		out.Cache = e.Cache.State
	}
	return out
}

// subscribed says whether somebody subscribes to the subject that would be asked; nil if that isn't known.
func (s *Server) subscribed(x *exchange.Exchange) *bool {
	var served, known bool
	if to, ok := s.destination(x); ok {
		served, known = s.mesh.Served(to)
	} else if x.Route.To.Kind == node.KindNATS {
		if subject, err := x.Route.To.Subject.Expand(x.Param); err == nil {
			served, known = s.mesh.PlainServed(subject)
		}
	}
	if !known {
		return nil
	}
	return &served
}
