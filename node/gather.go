package node

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// Gather makes several calls at once and answers once. Its time is that of the slowest path through the calls, not their sum.
type Gather struct {
	Mode        GatherMode      `yaml:"mode" doc:"What is waited for: settled (every call, failed or not), all (every call must succeed), quorum, race (the first that ends) or any (the first that succeeds)."`
	Quorum      int             `yaml:"quorum" doc:"With mode quorum: how many calls must succeed."`
	Concurrency int             `yaml:"concurrency" doc:"Calls that run at once; 0 for all."`
	Calls       map[string]Call `yaml:"calls" doc:"The calls by name, under which their results stand in the response." required:"true"`
}

// Defaults sets what a configuration leaves out.
func (g *Gather) Defaults() { g.Mode = GatherSettled }

// Caches tells whether some call caches. g may be nil.
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

// GatherMode says what a gather waits for. See the constants.
type GatherMode string

// The values of GatherMode.
const (
	GatherSettled GatherMode = "settled" // {name: {status, body or error}}, with status 200
	GatherAll     GatherMode = "all"     // {name: body}, or 502 if one fails
	GatherQuorum  GatherMode = "quorum"  // {name: body} of those that succeeded, or 502
	GatherRace    GatherMode = "race"    // the response that comes first
	GatherAny     GatherMode = "any"     // the first response that succeeds, or 502
)

// UnmarshalText accepts the values of GatherMode.
func (m *GatherMode) UnmarshalText(text []byte) error {
	return oneOf(m, text, GatherSettled, GatherAll, GatherQuorum, GatherRace, GatherAny)
}

// Call is one call of a gather. It carries the end-to-end fields of the client's request and no body.
type Call struct {
	To       Target   `yaml:"to" doc:"service:NAME or upstream:NAME." required:"true"`
	Path     Template `yaml:"path" doc:"Path and query; {param} is a parameter of the route, {*} what its /* matched, {call.field} a part of the result of a call named in after." required:"true"`
	Method   Method   `yaml:"method" doc:"Method of the call."`
	After    []string `yaml:"after" doc:"Calls that must have succeeded before this one begins."`
	Timeout  Duration `yaml:"timeout" doc:"Deadline of this call; 0s for that of the whole request."`
	Fallback JSON     `yaml:"fallback" doc:"JSON text that stands in for the result when the call fails, which then counts as success."`
	Cache    *Cache   `yaml:"cache" doc:"Caching of this call's responses, as of a route."`
	Limit    Limits   `yaml:"limit" doc:"Names of limits under limits that this call takes from, on top of the route's; a call that is refused has status 429."`
	Extract  string   `yaml:"extract" doc:"gjson path of the part of the result that is wanted; the whole if empty."`
}

// Defaults sets what a configuration leaves out.
func (c *Call) Defaults() { c.Method = "GET" }

// JSON is a JSON text.
type JSON string

// UnmarshalText checks the text.
func (j *JSON) UnmarshalText(text []byte) error {
	if !json.Valid(text) {
		return fmt.Errorf("%q is not JSON: write it as a text, such as '[]' or '{\"name\": null}'", text)
	}
	*j = JSON(text)
	return nil
}

// maxCalls bounds the calls of one gather.
const maxCalls = 256

// gather checks the calls of a route.
func (v *validator) gather(route int, r *Route) {
	g := r.Gather
	at := func(keys ...string) []string {
		return append([]string{"routes", strconv.Itoa(route), "gather"}, keys...)
	}
	v.check(len(g.Calls) > 0 && len(g.Calls) <= maxCalls, at("calls"), "%d calls: use 1 to %d", len(g.Calls), maxCalls)
	v.check(g.Concurrency >= 0, at("concurrency"), "%d is out of range: use 1 or more, or 0 for all at once", g.Concurrency)
	if g.Mode == GatherQuorum {
		v.check(g.Quorum >= 1 && g.Quorum <= len(g.Calls), at("quorum"), "%d of %d calls can't succeed: use 1 to %[2]d", g.Quorum, len(g.Calls))
	} else {
		v.check(g.Quorum == 0, at("quorum"), "quorum is for mode quorum: set mode: quorum, or leave it out")
	}
	for _, name := range slices.Sorted(maps.Keys(g.Calls)) {
		v.call(func(keys ...string) []string { return at(append([]string{"calls", name}, keys...)...) }, name, r)
	}
	if cycle := g.cycle(); cycle != "" {
		v.report(at("calls", cycle, "after"), "call %q waits for itself, by way of others: take one after out", cycle)
	}
}

func (v *validator) call(at placed, name string, r *Route) {
	c, names := r.Gather.Calls[name], slices.Sorted(maps.Keys(r.Gather.Calls))
	v.name(at(), name)
	v.check(c.To.Kind != KindNATS, at("to"), "a gather calls services and upstreams: write service:NAME or upstream:NAME")
	if _, ok := v.config.Upstreams[c.To.Name]; c.To.Kind == KindUpstream && !ok {
		v.report(at("to"), "upstream %q is not declared under upstreams%s", c.To.Name, didYouMean(c.To.Name, slices.Sorted(maps.Keys(v.config.Upstreams))))
	}
	single := r.Gather.Mode == GatherRace || r.Gather.Mode == GatherAny
	v.check(!single || len(c.After) == 0, at("after"), "mode %s answers with one of the calls, so none waits for another: leave after out", r.Gather.Mode)
	for i, after := range c.After {
		_, known := r.Gather.Calls[after]
		v.check(known, at("after", strconv.Itoa(i)), "there is no call %q%s", after, didYouMean(after, names))
	}
	v.check(c.Timeout >= 0, at("timeout"), "%s is negative: use 0s or more", c.Timeout.Std())
	v.refs(at("path"), r, c.Path, c.After...)
	if c.Cache != nil {
		v.cache(at, c.Cache)
	}
	for i := range c.Limit {
		v.callLimit(func(keys ...string) []string { return at(append([]string{"limit", strconv.Itoa(i)}, keys...)...) }, &c.Limit[i], r)
	}
}

// callLimit checks a limit of a call: its counts are shared by name, since a call has none of its own.
func (v *validator) callLimit(at placed, l *Limit, r *Route) {
	if l.Use == "" {
		v.report(at(), "calls take from limits by name: put this one under limits, and write its name here")
		return
	}
	v.use(at, l)
	v.limitParams(at, l, r.Path)
	v.limitInTime(at, l, r)
}

// cycle gives a call that waits for itself, or "". Unknown calls are reported elsewhere.
func (g *Gather) cycle() string {
	done := map[string]bool{}
	var visit func(name string, open []string) string
	visit = func(name string, open []string) string {
		if slices.Contains(open, name) {
			return name
		}
		if done[name] {
			return ""
		}
		for _, after := range g.Calls[name].After {
			if found := visit(after, append(open, name)); found != "" {
				return found
			}
		}
		done[name] = true
		return ""
	}
	for _, name := range slices.Sorted(maps.Keys(g.Calls)) {
		if found := visit(name, nil); found != "" {
			return found
		}
	}
	return ""
}
