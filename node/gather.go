package node

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Gather makes several calls concurrently and combines their results to one response. It takes as long as the slowest
// path through the calls, not their sum.
type Gather struct {
	Mode        GatherMode      `yaml:"mode" doc:"What is waited for: settled (every call, failed or not), all (every call must succeed), quorum, race (the first that ends) or any (the first that succeeds)."`
	Quorum      int             `yaml:"quorum" doc:"With mode quorum: how many calls must succeed."`
	Concurrency int             `yaml:"concurrency" doc:"Calls that run at once; 0 for all."`
	Calls       map[string]Call `yaml:"calls" doc:"The calls by name, under which their results stand in the response." required:"true"`
}

// Defaults sets what a configuration leaves out.
func (g *Gather) Defaults() { g.Mode = GatherSettled }

// Caches reports whether a call caches. g may be nil.
func (g *Gather) Caches() bool {
	if g == nil {
		return false
	}
	for _, c := range g.Calls {
		if c.Cache != nil && c.Cache.On {
			return true
		}
	}
	return false
}

// GatherMode says what a gather waits for.
type GatherMode string

// The values of GatherMode.
const (
	GatherSettled GatherMode = "settled" // {name: {status, body or error}}, with status 200
	GatherAll     GatherMode = "all"     // {name: body}, or 502 if one fails
	GatherQuorum  GatherMode = "quorum"  // {name: body} of those that succeeded, or 502
	GatherRace    GatherMode = "race"    // the first response
	GatherAny     GatherMode = "any"     // the first response that succeeds, or 502
)

// Single reports whether the response is that of one call.
func (m GatherMode) Single() bool { return m == GatherRace || m == GatherAny }

// UnmarshalText accepts the values of GatherMode.
func (m *GatherMode) UnmarshalText(text []byte) error {
	return oneOf(m, text, GatherSettled, GatherAll, GatherQuorum, GatherRace, GatherAny)
}

// Call is one call of a gather. It has the end-to-end fields of the client's request, and never its body.
type Call struct {
	To       Target   `yaml:"to" doc:"service:NAME, upstream:NAME or nats:SUBJECT." required:"true"`
	Path     Template `yaml:"path" doc:"Path and query, of services and upstreams; {param} is a parameter of the route, {*} what its /* matched, {call.field} a part of the result of a call named in after."`
	Method   Method   `yaml:"method" doc:"Method of the call."`
	Body     Body     `yaml:"body" doc:"JSON body of the call; in its texts {param} and {call.field} stand for values as in path, and a text that is nothing else for the value itself, whatever its type."`
	After    []string `yaml:"after" doc:"Calls that must have succeeded before this one begins."`
	Timeout  Duration `yaml:"timeout" doc:"Deadline of this call; that of the whole request if left out." zero:"leave it out for the deadline of the whole request"`
	Fallback JSON     `yaml:"fallback" doc:"Any value that stands in for the result when the call fails, which then counts as success."`
	Cache    *Cache   `yaml:"cache" doc:"Caching of this call's responses, as of a route."`
	Limit    Limits   `yaml:"limit" doc:"Names of limits under limits that this call takes from, on top of the route's; a call that is refused has status 429."`
	Extract  string   `yaml:"extract" doc:"gjson path of the part of the result that is wanted; the whole if empty."`
}

// Defaults sets what a configuration leaves out.
func (c *Call) Defaults() { c.Method = "GET" }

// maxCalls is how many calls a gather may have.
const maxCalls = 256

// gather checks the calls of a route.
func (v *validator) gather(route int, r *Route) {
	g := r.Gather
	at := func(keys ...string) []string {
		return append([]string{"routes", strconv.Itoa(route), "gather"}, keys...)
	}
	v.check(len(g.Calls) > 0 && len(g.Calls) <= maxCalls, at("calls"), "%d calls: use 1 to %d", len(g.Calls), maxCalls)
	v.check(g.Concurrency >= 0, at("concurrency"), "%d is out of range: use 1 or more, or 0 for all at once",
		g.Concurrency)
	if g.Mode == GatherQuorum {
		v.check(len(g.Calls) == 0 || (g.Quorum >= 1 && g.Quorum <= len(g.Calls)), at("quorum"),
			"%d of %d calls can't be what must succeed: set quorum to 1 to %[2]d", g.Quorum, len(g.Calls))
	} else {
		v.check(g.Quorum == 0, at("quorum"), "quorum is for mode quorum: set mode: quorum, or leave it out")
	}
	for _, name := range slices.Sorted(maps.Keys(g.Calls)) {
		v.call(func(keys ...string) []string { return at(append([]string{"calls", name}, keys...)...) }, name, r)
	}
	if cycle := g.cycle(); len(cycle) > 0 {
		v.report(at("calls", cycle[0], "after"), "call %q waits for itself (%s): take one after out", cycle[0],
			strings.Join(cycle, " after "))
	}
}

func (v *validator) call(at keyPath, name string, r *Route) {
	c, names := r.Gather.Calls[name], slices.Sorted(maps.Keys(r.Gather.Calls))
	v.name(at(), name)
	v.callTarget(at, &c, r)
	if c.To.Kind == KindUpstream {
		v.declared(at("to"), c.To.Name)
	}
	v.check(!r.Gather.Mode.Single() || len(c.After) == 0, at("after"),
		"mode %s answers with one of the calls, so none waits for another: leave after out", r.Gather.Mode)
	for i, after := range c.After {
		_, known := r.Gather.Calls[after]
		v.check(known, at("after", strconv.Itoa(i)), "there is no call %q%s", after, didYouMean(after, names))
		v.check(!slices.Contains(c.After[:i], after), at("after", strconv.Itoa(i)),
			"call %q is named twice: leave one out", after)
	}
	v.check(c.Timeout >= 0, at("timeout"), "%s is negative: use 0s or more", c.Timeout.Std())
	v.refs(at("path"), r, c.Path.Refs(), c.After...)
	v.callBody(at, &c, r)
	if c.Cache != nil {
		v.cache(at, c.Cache)
	}
	for i := range c.Limit {
		v.callLimit(func(keys ...string) []string {
			return at(append([]string{"limit", strconv.Itoa(i)}, keys...)...)
		}, &c.Limit[i], r)
	}
}

// callTarget checks the target of a call, and that path and method fit it.
func (v *validator) callTarget(at keyPath, c *Call, r *Route) {
	plain, hasPath := c.To.Kind == KindNATS, c.Path.String() != ""
	v.check(c.To.Kind != KindSite, at("to"),
		"calls can't read sites: write service:NAME, upstream:NAME or nats:SUBJECT")
	v.check(plain || hasPath || c.To.Kind == "", at("path"), "the call has no path: write one such as /users/{id}")
	v.check(!plain || !hasPath, at("path"), "a plain NATS service has a subject and no path: leave path out")
	v.check(!plain || c.Method == http.MethodGet, at("method"), "a plain NATS service has no methods: leave method out")
	asks := *r
	asks.To = c.To
	v.refs(at("to"), &asks, c.To.Subject.Refs())
}

// callBody checks the body of a call, and that the fallbacks of earlier calls have what this call refers to.
func (v *validator) callBody(at keyPath, c *Call, r *Route) {
	refs, within := c.Body.Refs()
	v.refs(at("body"), r, refs, c.After...)
	reads := c.Method == http.MethodGet || c.Method == http.MethodHead || c.Method == "QUERY"
	v.check(reads || c.Cache == nil || !c.Cache.On, at("cache"), "responses to %s aren't cached: leave cache out",
		c.Method)
	if !c.Body.None() {
		bodiless := c.To.Kind != KindNATS && (c.Method == http.MethodGet || c.Method == http.MethodHead)
		v.check(!bodiless, at("body"), "a %s has no body: set method, such as POST", c.Method)
		v.check(c.Cache == nil || !c.Cache.On, at("cache"), "calls with a body aren't cached: leave cache out")
	}
	for _, ref := range c.Path.Refs() {
		v.inFallback(at("path"), ref, true, r)
	}
	for i, ref := range refs {
		v.inFallback(at("body"), ref, within[i], r)
	}
}

// inFallback checks that a reference finds a value in its call's fallback. If text is set, it must be a string or
// number.
func (v *validator) inFallback(at []string, ref Ref, text bool, r *Route) {
	instead := r.Gather.Calls[ref.Call].Fallback
	if ref.Call == "" || instead == "" {
		return
	}
	_, ok := ref.JSONIn([]byte(instead))
	v.check(ok, at, "%s is not in the fallback of call %q: add it there", ref, ref.Call)
	if ok && text {
		_, ok = ref.TextIn([]byte(instead))
		v.check(ok, at, "%s is neither text nor number in the fallback of call %q", ref, ref.Call)
	}
}

// callLimit checks a limit of a call. It must be a use of a named limit, since a call has no counts of its own.
func (v *validator) callLimit(at keyPath, l *Limit, r *Route) {
	if l.Use == "" {
		v.report(at(), "calls take from limits by name: put this one under limits, and write its name here")
		return
	}
	v.use(at, l)
	v.limitParams(at, l, r.Path)
	v.limitInTime(at, l, r)
}

// cycle returns calls that wait for each other in a circle, each for the next, with the first one again at the end; nil
// if there are none. Unknown calls are reported elsewhere.
func (g *Gather) cycle() []string {
	done := map[string]bool{}
	var visit func(name string, open []string) []string
	visit = func(name string, open []string) []string {
		if i := slices.Index(open, name); i >= 0 {
			return append(slices.Clone(open[i:]), name)
		}
		if done[name] {
			return nil
		}
		for _, after := range g.Calls[name].After {
			if found := visit(after, append(open, name)); found != nil {
				return found
			}
		}
		done[name] = true
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(g.Calls)) {
		if found := visit(name, nil); found != nil {
			return found
		}
	}
	return nil
}
