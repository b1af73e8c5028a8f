package node

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// ownAdmin reports targets that are the node's own admin API. Clients of the edge could operate the node, since their
// requests would come from this machine.
func (v *validator) ownAdmin() {
	listen := v.config.Admin.Listen
	for _, name := range slices.Sorted(maps.Keys(v.config.Upstreams)) {
		for i, t := range v.config.Upstreams[name].Targets {
			v.check(!listen.ReachedBy(t.URL), []string{"upstreams", name, "targets", strconv.Itoa(i)},
				"target %s is this node's own admin API (admin.listen %s): clients could operate the node; write "+
					"where your application listens", t.URL, listen)
		}
	}
}

// zeroLimits reports limits that refuse every request and aren't in shadow mode.
func (v *validator) zeroLimits() {
	const text = "a limit of 0 refuses every request: write 1 or more, or answer by respond: {status: 403} to say so"
	for _, name := range slices.Sorted(maps.Keys(v.config.Limits)) {
		l := v.config.Limits[name]
		v.check(l.Max != 0 || l.Shadow, []string{"limits", name}, text)
	}
	for i := range v.config.Routes {
		for j, l := range v.config.Routes[i].Limit {
			v.check(l.Max != 0 || l.Shadow || l.Use != "",
				[]string{"routes", strconv.Itoa(i), "limit", strconv.Itoa(j)}, text)
		}
	}
}

// redirectsToThemselves reports routes that match the requests caused by their own redirects. It uses a placeholder for
// parts of the request in the location. Locations that another route may match aren't reported.
func (v *validator) redirectsToThemselves() {
	for i := range v.config.Routes {
		r := &v.config.Routes[i]
		if r.Redirect == nil || !v.redirectsTo(i) {
			continue
		}
		v.report([]string{"routes", strconv.Itoa(i), "redirect", "to"},
			"clients are sent from %s to %s, which leads here again: write another place", r.Path, r.Redirect.To)
	}
}

// redirectsTo reports whether the route at index i, and no other, matches a request caused by its own redirect.
func (v *validator) redirectsTo(i int) bool {
	r := &v.config.Routes[i]
	to := r.Redirect.To
	// A proxy in front of the edge may speak TLS.
	elsewhere := to.Scheme == "https" || (to.Host != "" && to.Host != string(r.Host))
	status := r.Redirect.Status
	keeps := status == http.StatusTemporaryRedirect || status == http.StatusPermanentRedirect
	if elsewhere || (!keeps && !r.MatchesMethod(http.MethodGet)) {
		return false
	}
	written, err := to.Path.Expand(func(Ref) (string, error) { return "x", nil })
	if err != nil {
		return false
	}
	written, _, _ = strings.Cut(written, "?")
	path, _, err := CanonicalPath(written)
	return err == nil && r.Path.Matches(path) && !v.otherTakes(i, path)
}

// otherTakes reports whether another route than the one at index i may match a path that this one matches.
func (v *validator) otherTakes(i int, path string) bool {
	r := &v.config.Routes[i]
	takes := func(p Pattern) bool { return p.Matches(path) && p.Compare(r.Path) != Wider }
	for j := range v.config.Routes {
		if other := &v.config.Routes[j]; j != i && other.Host == r.Host && takes(other.Path) {
			return true
		}
	}
	return r.Host == "" && slices.ContainsFunc(v.config.Edge.Expose, func(name string) bool {
		return name != "*" && takes(Pattern{Segments: []Segment{{Literal: name}}, Rest: true})
	})
}
