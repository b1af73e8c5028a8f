package node

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
)

// upstreamUse is a route or a call with an upstream as its target.
type upstreamUse struct {
	path     []string // of its own timeout's key
	upstream string
	own      Duration // its own timeout; 0 if it has none
	waits    Duration // how long it waits in effect
}

// upstreamUses returns the routes and calls with upstreams as targets, in the order of the file.
func (v *validator) upstreamUses() (out []upstreamUse) {
	for i, r := range v.config.Routes {
		path, waits := []string{"routes", strconv.Itoa(i)}, cmp.Or(r.Timeout, v.config.Edge.Timeout)
		if r.Gather == nil {
			out = append(out, upstreamUse{append(path, "timeout"), r.Origin().upstream(), r.Timeout, waits})
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(r.Gather.Calls)) {
			c := r.Gather.Calls[name]
			use := upstreamUse{
				append(slices.Clip(path), "gather", "calls", name, "timeout"), c.To.upstream(),
				c.Timeout, waits,
			}
			if c.Timeout > 0 {
				use.waits = min(waits, c.Timeout)
			}
			out = append(out, use)
		}
	}
	return slices.DeleteFunc(out, func(u upstreamUse) bool { return u.upstream == "" })
}

// upstream returns the name of the upstream; empty for other targets.
func (t Target) upstream() string {
	if t.Kind != KindUpstream {
		return ""
	}
	return t.Name
}

// unreachedTimeouts reports timeouts of an upstream that no request can reach, since all routes and calls give up
// earlier. It reports nothing if the upstream may have other users: in a mesh of several nodes, or if members may call
// it.
func (v *validator) unreachedTimeouts(uses []upstreamUse) {
	members := v.config.Mesh.GatherUpstreams
	if !v.config.Mesh.Alone() || slices.Contains(members, "*") {
		return
	}
	longest := map[string]Duration{}
	for _, u := range uses {
		longest[u.upstream] = max(longest[u.upstream], u.waits)
	}
	for _, name := range slices.Sorted(maps.Keys(longest)) {
		u, waits := v.config.Upstreams[name], longest[name]
		if u.Remote || slices.Contains(members, name) {
			continue
		}
		at := func(keys ...string) []string { return append([]string{"upstreams", name}, keys...) }
		v.check(u.Timeout <= waits, at("timeout"),
			"%s is never reached: who asks upstream %q waits %s at most, so leave it out", u.Timeout.Std(), name,
			waits.Std())
		v.check(u.Retry.TryTimeout < waits, at("retry", "try_timeout"),
			"%s leaves no time for another try: who asks upstream %q waits %s at most",
			u.Retry.TryTimeout.Std(), name, waits.Std())
		v.check(u.Retry.Hedge < waits, at("retry", "hedge"),
			"%s is never reached: who asks upstream %q waits %s at most",
			u.Retry.Hedge.Std(), name, waits.Std())
		v.connectTimeout(at("connect_timeout"), u, waits)
	}
}

// connectTimeout reports a configured connect timeout that is never reached.
func (v *validator) connectTimeout(path []string, u Upstream, waits Duration) {
	var standard Upstream
	standard.Defaults()
	if u.Timeout > 0 {
		waits = min(waits, u.Timeout)
	}
	v.check(u.ConnectTimeout == standard.ConnectTimeout || u.ConnectTimeout < waits, path,
		"%s is never reached: a request has %s in all", u.ConnectTimeout.Std(), waits.Std())
}

// callTimeouts reports timeouts of calls that exceed that of the whole request.
func (v *validator) callTimeouts() {
	for i, r := range v.config.Routes {
		whole, of := r.Timeout, "the route"
		if whole == 0 {
			whole, of = v.config.Edge.Timeout, "edge.timeout"
		}
		if r.Gather == nil {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(r.Gather.Calls)) {
			own := r.Gather.Calls[name].Timeout
			v.check(own <= whole, []string{"routes", strconv.Itoa(i), "gather", "calls", name, "timeout"},
				"%s is never reached: the whole request has %s, by %s", shortDuration(own.Std()),
				shortDuration(whole.Std()), of)
		}
	}
}

// routeTimeouts reports timeouts of routes and calls that exceed that of their upstream.
func (v *validator) routeTimeouts(uses []upstreamUse) {
	for _, use := range uses {
		limit := v.config.Upstreams[use.upstream].Timeout
		v.check(limit == 0 || use.own <= limit, use.path,
			"%s is never reached: upstream %q gives up after its own timeout of %s", use.own.Std(), use.upstream,
			limit.Std())
	}
}
