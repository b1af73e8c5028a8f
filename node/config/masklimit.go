package config

import (
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"millrace/node"
)

// maskLimits returns the named limits for mask. If limits couldn't be read, every used name counts as declared.
func maskLimits(r *report, c *node.Config) map[string]node.Limit {
	limits := maps.Clone(c.Limits)
	for name, l := range limits {
		limits[name] = maskLimit(r, l, "limits", name)
	}
	if !r.mistaken("limits") {
		return limits
	}
	if limits == nil {
		limits = map[string]node.Limit{}
	}
	for _, route := range c.Routes {
		for _, l := range route.Limit {
			if _, found := limits[l.Use]; !found && l.Use != "" {
				limits[l.Use] = placeholderLimit()
			}
		}
	}
	return limits
}

// maskLimit returns a limit without mistakes unchanged. Of one with a mistake it keeps only the names that could be
// read, since its other keys can't be checked against each other.
func maskLimit(r *report, l node.Limit, path ...string) node.Limit {
	below := func(key string) []string { return append(slices.Clip(path), key) }
	if !r.mistaken(path...) && len(r.mistakenKeys(path...)) == 0 {
		return l
	}
	out := placeholderLimit()
	if !r.mistaken(below("use")...) && l.Use != "" {
		out.Max, out.Window, out.Use = 0, node.Window{}, l.Use
	}
	out.Name = l.Name
	if r.mistaken(below("name")...) {
		out.Name = strings.Join(path, "\x00") // a unique name
	}
	return out
}

// placeholderLimit returns a valid limit that causes no other problem.
func placeholderLimit() node.Limit {
	var l node.Limit
	l.Defaults()
	l.Max, l.Window = math.MaxInt32, node.Window{Length: time.Minute}
	return l
}

// addParams adds the parameters that the route's limits count by to its path.
func addParams(route *node.Route, named map[string]node.Limit) {
	for _, l := range route.Limit {
		for _, k := range l.Resolve(named).Key {
			if k.Kind == node.KeyParam {
				route.Path.Segments = append(route.Path.Segments, node.Segment{Param: k.Name})
			}
		}
	}
}
