package node

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// LimitID returns the name of the route's i-th limit: that of the limit under limits that it uses, its own, or one
// derived from the route's ID: api for the first limit of route api, api-2 for the second. It is a valid name by
// CheckName. No two limits of routes from NameRoutes have the same.
func (r Route) LimitID(i int) string {
	l := r.Limit[i]
	switch {
	case l.Use != "":
		return l.Use
	case l.Name != "":
		return l.Name
	}
	suffix := ""
	if i > 0 {
		suffix = "-" + strconv.Itoa(i+1)
	}
	return withSuffix(r.ID(), suffix)
}

// use checks a use of a limit under limits: that the limit exists, and that only allowed keys are set.
func (v *validator) use(at keyPath, l *Limit) {
	for _, key := range keysBesideUse(l) {
		if key == "name" {
			v.report(at(key), "a use has the name of its limit, %q: leave name out", l.Use)
		} else {
			v.report(at(key), "%s stands with the limit itself: set it in limits.%s, and leave it out here", key, l.Use)
		}
	}
	v.limitRequests(at, l)
	named, ok := v.config.Limits[l.Use]
	if !ok {
		v.report(at("use"), "limit %q is not declared under limits%s", l.Use,
			v.nearest(l.Use, &v.limitsKnown, maps.Keys(v.config.Limits)))
		return
	}
	room := named.Room()
	v.check(l.Cost <= 1 || room <= 0 || l.Cost <= room, at("cost"),
		"a request that costs %d never fits into limit %q: use 1 to %d", l.Cost, l.Use, room)
	if l.SkipFailed || l.SkipSuccessful {
		v.useSkips(at, l, &named)
	}
}

// useSkips checks the skip keys of a use against those of its limit.
func (v *validator) useSkips(at keyPath, l, named *Limit) {
	key := skipKey(l)
	v.check(named.Algorithm != AlgorithmConcurrent, at(key),
		"limit %q counts requests in flight, whatever becomes of them: leave %s out", l.Use, key)
	if l.SkipFailed != l.SkipSuccessful && named.SkipFailed != named.SkipSuccessful {
		v.check(l.SkipFailed == named.SkipFailed, at(key),
			"limit %q has %s, and with %s here nothing counts: leave it out", l.Use, skipKey(named), key)
	}
}

// keysBesideUse returns the keys that are set but not allowed in a use.
func keysBesideUse(l *Limit) []string {
	var standard Limit
	standard.Defaults()
	var keys []string
	values, defaults := l.scalars(), standard.scalars()
	for i, key := range scalarKeys {
		if values[i] != defaults[i] && !slices.Contains([]string{"use", "cost", "skip_failed", "skip_successful"},
			key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// limitParams checks that the path has the parameters by which a limit counts, or the limit that it uses.
func (v *validator) limitParams(at keyPath, l *Limit, path Pattern) {
	params := path.Params()
	missing := func(k LimitKey) bool { return k.Kind == KeyParam && !slices.Contains(params, k.Name) }
	for i, k := range l.Key {
		v.check(!missing(k), at("key", strconv.Itoa(i)), "parameter {%s} is not in path %s%s", k.Name, path,
			didYouMean(k.Name, params))
	}
	var standard Limit
	standard.Defaults()
	if l.Use == "" || !l.Key.equal(standard.Key) {
		return
	}
	for _, k := range v.config.Limits[l.Use].Key {
		v.check(!missing(k), at("use"),
			"limit %q counts by parameter {%s}, which is not in path %s: put it there, or give this use a key such as "+
				"all or header:NAME", l.Use, k.Name, path)
	}
}

// limitNames reports limits with the same configured name: they would be counted as one. Derived names avoid configured
// ones.
func (v *validator) limitNames() {
	first := map[string]limitPosition{}
	for i, r := range v.config.Routes {
		for j, l := range r.Limit {
			if l.Use != "" || l.Name == "" {
				continue
			}
			here := limitPosition{i, j}
			other, again := first[l.Name]
			if _, named := v.config.Limits[l.Name]; named {
				v.report(here.path(), "limits has one of the name %q: write use: %[1]s if that is meant, or give this "+
					"limit another", l.Name)
			} else if again {
				v.report(here.path(), "%s has the name %q too: for one limit put it under limits and use it by name, "+
					"for two give them different names", other.in(&v.config.Routes[other.route]), l.Name)
				v.problems[len(v.problems)-1].Other = other.path()
			} else {
				first[l.Name] = here
			}
		}
	}
}

// limitPosition is the position of a limit of a route.
type limitPosition struct{ route, index int }

// in returns the position as the file probably writes it.
func (p limitPosition) in(r *Route) string {
	if len(r.Limit) == 1 {
		return fmt.Sprintf("routes[%d].limit", p.route)
	}
	return fmt.Sprintf("routes[%d].limit[%d]", p.route, p.index)
}

func (p limitPosition) path() []string {
	return []string{"routes", strconv.Itoa(p.route), "limit", strconv.Itoa(p.index), "name"}
}
