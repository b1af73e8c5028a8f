package node

import (
	"cmp"
	"crypto/sha256"
	"encoding/base32"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// reservedNames are the names in metrics and events of requests without a configured route.
var reservedNames = []string{"exposed", "purge", "unmatched", "api-call"}

// Named returns the configuration's routes with names; see NameRoutes.
func (c *Config) Named() []Route { return NameRoutes(c.Routes, c.Limits) }

// NameRoutes returns the routes with a name for each of them and each of their limits, for metrics, events, logs and
// the counts of limits. Configured names aren't changed. The others are derived like Route.ID. If two routes would have
// the same name, or a name is too long, the name that shows less of its route gets a short hash of what the route
// matches: a for /a, a-2bq4k for /a/. The order of the routes doesn't matter. limits are the named ones.
func NameRoutes(routes []Route, limits map[string]Limit) []Route {
	if !slices.ContainsFunc(routes, func(r Route) bool {
		return r.Name == "" || slices.ContainsFunc(r.Limit, unnamed)
	}) {
		return routes
	}
	taken := map[string]bool{}
	for _, name := range reservedNames {
		taken[name] = true
	}
	out := slices.Clone(routes)
	var pending []pendingName
	for i := range out {
		if r := &out[i]; r.Name != "" {
			taken[r.Name] = true
		} else {
			plain, loss := r.derivedName()
			pending = append(pending, pendingName{base: plain, loss: loss, key: r.matcher(), name: &r.Name})
		}
	}
	assignNames(taken, pending)
	nameLimits(out, limits)
	return out
}

// unnamed reports whether a limit needs a name.
func unnamed(l Limit) bool { return l.Use == "" && l.Name == "" }

// nameLimits names the limits that have no name. Uses of named limits have one.
func nameLimits(routes []Route, limits map[string]Limit) {
	taken := map[string]bool{}
	for name := range limits {
		taken[name] = true
	}
	var pending []pendingName
	for i := range routes {
		r := &routes[i]
		if slices.ContainsFunc(r.Limit, unnamed) {
			r.Limit = slices.Clone(r.Limit)
		}
		for j := range r.Limit {
			switch l := &r.Limit[j]; {
			case l.Use != "":
			case l.Name != "":
				taken[l.Name] = true
			default:
				key := r.matcher() + "\x00" + strconv.Itoa(j)
				pending = append(pending, pendingName{base: r.LimitID(j), loss: j, key: key, name: &l.Name})
			}
		}
	}
	assignNames(taken, pending)
}

// pendingName is a name that must still be assigned.
type pendingName struct {
	base string // the name, if no other has it
	loss int    // how much of its source the name doesn't show; names with less loss are assigned first
	key  string // the whole source of the name
	name *string
}

// assignNames assigns a unique name to each pending one. Names without a hash are assigned first, so that none
// conflicts with a hashed one.
func assignNames(taken map[string]bool, pending []pendingName) {
	slices.SortFunc(pending, func(a, b pendingName) int {
		return cmp.Or(cmp.Compare(a.loss, b.loss), cmp.Compare(a.key, b.key))
	})
	var remaining []pendingName
	for _, c := range pending {
		if len(c.base) > MaxName || taken[c.base] {
			remaining = append(remaining, c)
			continue
		}
		taken[c.base] = true
		*c.name = c.base
	}
	for _, c := range remaining {
		*c.name = c.withHash(taken)
		taken[*c.name] = true
	}
}

// withHash returns the name followed by a hash that is long enough to be unique.
func (c pendingName) withHash(taken map[string]bool) string {
	sum := sha256.Sum256([]byte(c.key))
	hash := strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:]))
	for n := 5; n <= len(hash); n++ {
		if name := withSuffix(c.base, "-"+hash[:n]); !taken[name] {
			return name
		}
	}
	for n := 2; ; n++ { // the same route twice, which Validate refuses
		if name := withSuffix(c.base, "-"+hash[:5]+"-"+strconv.Itoa(n)); !taken[name] {
			return name
		}
	}
}

// withSuffix shortens the name so that both fit into MaxName.
func withSuffix(name, suffix string) string {
	return name[:min(len(name), MaxName-len(suffix))] + suffix
}

// ID returns the route's name, or one derived from its host, methods, path and match: "GET api.example.com
// /orders/{id}" becomes get-api_example_com-orders-id. It is a valid name by CheckName. Two routes may have the same
// derived name; NameRoutes makes them unique.
func (r Route) ID() string {
	if r.Name != "" {
		return r.Name
	}
	name, _ := r.derivedName()
	return name[:min(len(name), MaxName)]
}

// derivedName returns the name before it is shortened, and how many characters and segments of its source it doesn't
// show. Dots of a host aren't counted, since every host has some.
func (r *Route) derivedName() (name string, loss int) {
	var words []string
	add := func(s string) {
		word, changed := sanitize(s)
		loss += changed
		if word != "" {
			words = append(words, word)
		}
	}
	for _, m := range r.Methods {
		words = append(words, strings.ToLower(string(m)))
	}
	add(string(r.Host))
	loss -= strings.Count(string(r.Host), ".")
	for _, s := range r.Path.Segments {
		if s == (Segment{}) && len(r.Path.Segments) > 1 {
			loss++
		}
		add(asWritten(s.Literal) + s.Param)
	}
	if r.Path.Rest {
		words = append(words, "all")
	}
	for _, k := range slices.Sorted(maps.Keys(r.Match.Headers)) {
		add(strings.ToLower(k) + "_" + r.Match.Headers[k])
	}
	if len(words) == 0 {
		return "root", loss
	}
	return strings.Join(words, "-"), loss
}

// sanitize converts a text to a part of a name, and returns how many of its characters it has changed.
func sanitize(s string) (word string, changed int) {
	word = strings.Map(func(c rune) rune {
		low := c
		if c >= 'A' && c <= 'Z' {
			low = c | 0x20
		}
		if low >= 0x80 || !ValidName(string(low)) {
			low = '_'
		}
		if low != c {
			changed++
		}
		return low
	}, s)
	return word, changed
}

// matcher returns what the route matches as a text. No two routes of a valid configuration have the same.
func (r *Route) matcher() string {
	methods := slices.Sorted(slices.Values(r.Methods))
	parts := []string{string(r.Host), r.Path.String()}
	for _, m := range slices.Compact(methods) {
		parts = append(parts, string(m))
	}
	for _, k := range slices.Sorted(maps.Keys(r.Match.Headers)) {
		parts = append(parts, strings.ToLower(k)+":"+r.Match.Headers[k])
	}
	return strings.Join(parts, "\x00")
}
