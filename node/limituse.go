package node

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// LimitID gives the name of the route's i-th limit: that of the limit under limits which it is a use of, its own, or
// one derived from the route's ID: api for the first limit of route api, api-2 for the second. It is a valid name by
// CheckName. Of routes from NameRoutes no two limits have the same.
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

// use checks a use of a limit under limits: that there is one, and what is said beside its name.
func (v *validator) use(at placed, l *Limit) {
	for _, key := range besideUse(l) {
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
		v.skipsOf(at, l, &named)
	}
}

// skipsOf checks what a use doesn't count against what the limit itself doesn't.
func (v *validator) skipsOf(at placed, l, named *Limit) {
	key := skipKey(l)
	v.check(named.Algorithm != AlgorithmConcurrent, at(key),
		"limit %q counts requests in flight, whatever becomes of them: leave %s out", l.Use, key)
	if l.SkipFailed != l.SkipSuccessful && named.SkipFailed != named.SkipSuccessful {
		v.check(l.SkipFailed == named.SkipFailed, at(key),
			"limit %q has %s, and with %s here nothing counts: leave it out", l.Use, skipKey(named), key)
	}
}

// besideUse names the keys that a use of a named limit can't have, but has.
func besideUse(l *Limit) []string {
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

// limitParams checks that the path has the parameters that a limit counts by, its own or those of the limit that it is
// a use of.
func (v *validator) limitParams(at placed, l *Limit, path Pattern) {
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

// limitNames reports limits that the configuration gives the same name: they would be counted as one although they are
// two. Derived names yield to them.
func (v *validator) limitNames() {
	first := map[string]limitPlace{}
	for i, r := range v.config.Routes {
		for j, l := range r.Limit {
			if l.Use != "" || l.Name == "" {
				continue
			}
			here := limitPlace{i, j}
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

// limitPlace is where a limit of a route stands.
type limitPlace struct{ route, index int }

// in names the place, as the route is likely to write it.
func (p limitPlace) in(r *Route) string {
	if len(r.Limit) == 1 {
		return fmt.Sprintf("routes[%d].limit", p.route)
	}
	return fmt.Sprintf("routes[%d].limit[%d]", p.route, p.index)
}

func (p limitPlace) path() []string {
	return []string{"routes", strconv.Itoa(p.route), "limit", strconv.Itoa(p.index), "name"}
}
