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

// HostExplanation says in brief how the same request would be handled for another host.
type HostExplanation struct {
	Host   string `json:"host"`
	Route  string `json:"route"`
	Target string `json:"target"`
	Cache  string `json:"cache,omitempty"` // State of cache.Explanation
}

// Explain says how a request would be handled, and sends none. target is a path or an absolute URL, as people write
// them. A path stands for every host that clients may use here. The host with the most detailed explanation is
// explained; those that differ from it are in Also.
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
	// of equal ones MaxFunc returns the first
	best := slices.MaxFunc(list, func(a, b Explanation) int { return detailOf(&a) - detailOf(&b) })
	for i := range list {
		if e := &list[i]; e.Host != best.Host && e.Route != "" && (e.Route != best.Route || detailOf(e) > detailRoute) {
			best.Also = append(best.Also, e.brief())
		}
	}
	return best
}

// How detailed an explanation is.
const (
	detailRefusal = iota
	detailRoute
	detailStored // the cache has, or had, something
)

// detailOf returns how detailed the explanation is.
func detailOf(e *Explanation) int {
	switch {
	case e.Refusal != "":
		return detailRefusal
	case e.Cache == nil || e.Cache.State == "off" || e.Cache.State == "missing" || e.Cache.State == "bypass":
		return detailRoute
	}
	return detailStored
}

// brief shortens the explanation, for Also.
func (e *Explanation) brief() HostExplanation {
	out := HostExplanation{Host: e.Host, Route: e.Route, Target: e.Target}
	if e.Cache != nil && e.Cache.State != "off" {
		out.Cache = e.Cache.State
	}
	return out
}

// subscribed reports whether somebody subscribes to the request's subject; nil if that isn't known.
func (s *Server) subscribed(x *exchange.Exchange) *bool {
	var served, known bool
	if to, ok := s.destination(x); ok {
		served, known = s.mesh.Served(to)
	} else if origin := x.Route.Origin(); origin.Kind == node.KindNATS {
		if subject, err := origin.Subject.Expand(x.Param); err == nil {
			served, known = s.mesh.PlainServed(subject)
		}
	}
	if !known {
		return nil
	}
	return &served
}
