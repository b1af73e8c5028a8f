package exchange

import (
	"maps"
	"slices"
	"strings"

	"millrace/mesh"
	"millrace/node"
	"millrace/node/http1"
)

// PathValue returns the value of a template's reference into the path: a parameter, or what the route's /* matched. It
// is spelled as in the path.
func (x *Exchange) PathValue(ref node.Ref) (string, error) {
	if ref.Param == node.Rest {
		return x.afterPattern(), nil
	}
	return x.Param(ref.Param), nil
}

// afterPattern returns what the route's /* matched, without its first slash.
func (x *Exchange) afterPattern() string {
	path := x.Path
	for range x.Route.Path.Segments {
		i := strings.IndexByte(path[1:], '/')
		if i < 0 {
			return ""
		}
		path = path[i+1:]
	}
	return path[1:]
}

// Edit changes header fields.
func Edit(h *mesh.Header, e *node.Edits) {
	if len(e.Remove) > 0 {
		h.Delete(func(f mesh.Field) bool {
			return slices.ContainsFunc(e.Remove, func(name string) bool { return node.SameName(f.Name, name) })
		})
	}
	for _, name := range slices.Sorted(maps.Keys(e.Set)) {
		h.Set(name, e.Set[name])
	}
	for _, name := range slices.Sorted(maps.Keys(e.Add)) {
		h.Add(name, e.Add[name])
	}
}

// EditOwn applies the route's response rules to a response that the gateway itself makes (429, 502, 504 and so on). So
// a route that sets CORS fields sets them there too, and a browser reports the status and not a CORS error.
// Content-Type and Cache-Control stay, because they describe the problem and keep it out of caches.
func (x *Exchange) EditOwn(h *mesh.Header) {
	w := x.Route.Rewrite
	if x.Outcome.RefusedBy != nil {
		w = x.Outcome.RefusedBy.Rewrite
	}
	if w == nil || w.Response.None() {
		return
	}
	var kept mesh.Header
	own := func(f mesh.Field) bool { return http1.OneOf(f.Name, "Content-Type", "Cache-Control") }
	for _, f := range *h {
		if own(f) {
			kept = append(kept, f)
		}
	}
	Edit(h, &w.Response)
	h.Delete(own)
	*h = append(kept, *h...)
}

// SetTarget sets the target that is forwarded in place of the client's path and query.
func (x *Exchange) SetTarget(target string) { x.target = target }

// ForwardTarget returns the request target (path and query) that is sent to the route's target.
func (x *Exchange) ForwardTarget() string {
	if x.target != "" {
		return x.target
	}
	return x.Path + x.Query
}
