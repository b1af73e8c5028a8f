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

// reservedNames are what metrics and events call requests without a route of the configuration.
var reservedNames = []string{"exposed", "purge", "unmatched", "api-call"}

// Named gives the configuration's routes as NameRoutes does.
func (c *Config) Named() []Route { return NameRoutes(c.Routes, c.Limits) }

// NameRoutes gives the routes with a name for each of them and each of their limits, as metrics, events, logs and the
// counts of limits show them. Names of the configuration stay. The others are derived as Route.ID says; where two
// routes would have the same name, or a name is too long, the one that says less of its route gets a short hash of
// what the route matches behind it: a for /a, a-2bq4k for /a/. The order of the routes doesn't count. limits are
// those that are shared.
func NameRoutes(routes []Route, limits map[string]Limit) []Route {
	if !slices.ContainsFunc(routes, func(r Route) bool {
		return r.Name == "" || slices.ContainsFunc(r.Limit, nameless)
	}) {
		return routes
	}
	taken := map[string]bool{}
	for _, name := range reservedNames {
		taken[name] = true
	}
	out := slices.Clone(routes)
	var claims []claim
	for i := range out {
		if r := &out[i]; r.Name != "" {
			taken[r.Name] = true
		} else {
			plain, loss := r.derivedName()
			claims = append(claims, claim{plain: plain, loss: loss, key: r.matcher(), name: &r.Name})
		}
	}
	settle(taken, claims)
	nameLimits(out, limits)
	return out
}

// nameless reports whether a limit needs a name.
func nameless(l Limit) bool { return l.Use == "" && l.Name == "" }

// nameLimits names the limits that have none. Those that are used by name have theirs.
func nameLimits(routes []Route, limits map[string]Limit) {
	taken := map[string]bool{}
	for name := range limits {
		taken[name] = true
	}
	var claims []claim
	for i := range routes {
		r := &routes[i]
		if slices.ContainsFunc(r.Limit, nameless) {
			r.Limit = slices.Clone(r.Limit)
		}
		for j := range r.Limit {
			switch l := &r.Limit[j]; {
			case l.Use != "":
			case l.Name != "":
				taken[l.Name] = true
			default:
				key := r.matcher() + "\x00" + strconv.Itoa(j)
				claims = append(claims, claim{plain: r.LimitID(j), loss: j, key: key, name: &l.Name})
			}
		}
	}
	settle(taken, claims)
}

// claim is a name that is wanted.
type claim struct {
	plain string // as it is if nobody else has it
	loss  int    // how much of what it is derived from it doesn't show: the least loss has the first claim
	key   string // what it is derived from, whole
	name  *string
}

// settle gives each claim a name that nobody else has. Plain names go first, so that none has to yield to a hash.
func settle(taken map[string]bool, claims []claim) {
	slices.SortFunc(claims, func(a, b claim) int {
		return cmp.Or(cmp.Compare(a.loss, b.loss), cmp.Compare(a.key, b.key))
	})
	var left []claim
	for _, c := range claims {
		if len(c.plain) > MaxName || taken[c.plain] {
			left = append(left, c)
			continue
		}
		taken[c.plain] = true
		*c.name = c.plain
	}
	for _, c := range left {
		*c.name = c.hashed(taken)
		taken[*c.name] = true
	}
}

// hashed gives the name with a hash behind it that is as long as it must be.
func (c claim) hashed(taken map[string]bool) string {
	sum := sha256.Sum256([]byte(c.key))
	hash := strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:]))
	for n := 5; n <= len(hash); n++ {
		if name := withSuffix(c.plain, "-"+hash[:n]); !taken[name] {
			return name
		}
	}
	for n := 2; ; n++ { // the same route twice, which Validate refuses
		if name := withSuffix(c.plain, "-"+hash[:5]+"-"+strconv.Itoa(n)); !taken[name] {
			return name
		}
	}
}

// withSuffix cuts the name so that both fit into MaxName.
func withSuffix(name, suffix string) string {
	return name[:min(len(name), MaxName-len(suffix))] + suffix
}

// ID gives the route's name, or the one derived from its host, methods, path and match: "GET api.example.com
// /orders/{id}" becomes get-api_example_com-orders-id. It is a valid name by CheckName. Two routes may have the same
// derived name: NameRoutes tells them apart.
func (r Route) ID() string {
	if r.Name != "" {
		return r.Name
	}
	name, _ := r.derivedName()
	return name[:min(len(name), MaxName)]
}

// derivedName gives the name before it is cut, and how many characters and segments of what it is derived from it
// doesn't show. Dots in a host aren't counted: each has some.
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

// sanitize makes the text a part of a name and tells how many of its characters that has changed.
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

// matcher writes down what the route matches: no two routes of a valid configuration have the same.
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
