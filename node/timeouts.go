package node

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
)

// upstreamUse is a route, or a call of its gather, that asks an upstream.
type upstreamUse struct {
	place    []string // of its own timeout
	upstream string
	own      Duration // that it sets itself; 0 if it sets none
	waits    Duration // how long it waits in the end
}

// upstreamUses lists who asks upstreams, in the order of the file.
func (v *validator) upstreamUses() (out []upstreamUse) {
	for i, r := range v.config.Routes {
		place, waits := []string{"routes", strconv.Itoa(i)}, cmp.Or(r.Timeout, v.config.Edge.Timeout)
		if r.Gather == nil {
			out = append(out, upstreamUse{append(place, "timeout"), r.To.upstream(), r.Timeout, waits})
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(r.Gather.Calls)) {
			c := r.Gather.Calls[name]
			use := upstreamUse{
				append(slices.Clip(place), "gather", "calls", name, "timeout"), c.To.upstream(),
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

// upstream names the upstream that is asked; empty if none is.
func (t Target) upstream() string {
	if t.Kind != KindUpstream {
		return ""
	}
	return t.Name
}

// unreachedTimeouts reports times of an upstream that no request can reach, since all who ask it give up before. Who
// else may ask isn't known on a node that isn't alone, nor of an upstream that members may call.
func (v *validator) unreachedTimeouts(uses []upstreamUse) {
	members := v.config.Mesh.GatherUpstreams
	if v.config.Mesh.URL != "" || v.config.Mesh.Cluster.Enabled() || slices.Contains(members, "*") {
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

// connectTimeout reports one that is set and never reached.
func (v *validator) connectTimeout(path []string, u Upstream, waits Duration) {
	var standard Upstream
	standard.Defaults()
	if u.Timeout > 0 {
		waits = min(waits, u.Timeout)
	}
	v.check(u.ConnectTimeout == standard.ConnectTimeout || u.ConnectTimeout < waits, path,
		"%s is never reached: a request has %s in all", u.ConnectTimeout.Std(), waits.Std())
}

// cutCalls reports timeouts of calls that the whole request doesn't have.
func (v *validator) cutCalls() {
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

// cutTimeouts reports timeouts of routes and calls that their upstream's cuts short.
func (v *validator) cutTimeouts(uses []upstreamUse) {
	for _, use := range uses {
		limit := v.config.Upstreams[use.upstream].Timeout
		v.check(limit == 0 || use.own <= limit, use.place,
			"%s is never reached: upstream %q gives up after its own timeout of %s", use.own.Std(), use.upstream,
			limit.Std())
	}
}
