package node

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Problem is one mistake in a configuration. Path and Other are paths of keys and indexes, such as routes, 2, to.
type Problem struct {
	Path    []string
	Other   []string // another position that is involved; nil for none
	Message string
}

// Validate finds what the types alone don't: missing names, impossible values, undeclared upstreams and limits,
// ambiguous routes. It reports all problems, in the order of the file's sections.
func (c *Config) Validate() []Problem {
	v := &validator{config: c}
	v.node()
	v.edge()
	v.admin()
	v.mesh()
	v.ports()
	v.cacheStore()
	v.sites()
	v.limits()
	for _, name := range slices.Sorted(maps.Keys(c.Upstreams)) {
		v.upstream(name, c.Upstreams[name])
	}
	for i := range c.Routes {
		v.route(i)
	}
	v.conflicts()
	v.routeNames()
	v.limitNames()
	return v.problems
}

type validator struct {
	config   *Config
	problems []Problem

	upstreamsKnown, limitsKnown []string // candidates for nearest, sorted
	compared                    int      // names that nearest has looked at
}

func (v *validator) report(path []string, format string, args ...any) {
	v.problems = append(v.problems, Problem{Path: path, Message: fmt.Sprintf(format, args...)})
}

// check reports the message unless ok is true.
func (v *validator) check(ok bool, path []string, format string, args ...any) {
	if !ok {
		v.report(path, format, args...)
	}
}

// declared checks that the upstream exists.
func (v *validator) declared(path []string, name string) {
	if _, ok := v.config.Upstreams[name]; !ok {
		v.report(path, "upstream %q is not declared under upstreams%s", name,
			v.nearest(name, &v.upstreamsKnown, maps.Keys(v.config.Upstreams)))
	}
}

// maxCompared is how many names nearest looks at in all: thousands of typos among thousands of names would take
// minutes, and nobody reads that many suggestions.
const maxCompared = 200_000

// nearest returns a suggestion for a message about an unknown name. known caches the sorted names between calls.
func (v *validator) nearest(name string, known *[]string, names iter.Seq[string]) string {
	if *known == nil {
		*known = slices.Sorted(names)
	}
	if v.compared += len(*known); v.compared > maxCompared {
		return ""
	}
	return didYouMean(name, *known)
}

func (v *validator) name(path []string, name string) {
	if err := CheckName(name); err != nil {
		v.report(path, "%s", err)
	}
}

func (v *validator) node() {
	c := v.config
	v.check(c.Version == Version, []string{"version"}, "version %d is not supported: this build reads version %d",
		c.Version, Version)
	v.name([]string{"node", "name"}, c.Node.Name)
	v.check(c.Node.Data != "", []string{"node", "data"}, "data is empty: name a directory")
}

func (v *validator) edge() {
	e := v.config.Edge
	at := func(key string) []string { return []string{"edge", key} }
	for i, name := range e.Expose {
		if name != "*" {
			v.name(append(at("expose"), strconv.Itoa(i)), name)
		}
	}
	v.positive("edge", map[string]Duration{
		"timeout": e.Timeout, "read_timeout": e.ReadTimeout, "write_timeout": e.WriteTimeout,
		"idle_timeout": e.IdleTimeout,
		"stream_idle":  e.StreamIdle,
	})
	v.check(e.MaxHeader >= 4*KiB && e.MaxHeader <= 256*KiB, at("max_header"), "%s is out of range: use 4KiB to 256KiB",
		e.MaxHeader)
	v.check(e.MaxClientShare > 0 && e.MaxClientShare <= 100, at("max_client_share"),
		"%d is out of range: use 1 to 100, a percentage of max_connections", e.MaxClientShare)
	v.check(e.MaxConnections > 0, at("max_connections"), "%d is out of range: use 1 or more", e.MaxConnections)
	v.check(e.MaxBuffered >= MiB, at("max_buffered"), "%s is out of range: use 1MiB or more", e.MaxBuffered)
	v.check(e.MaxRequests > 0, at("max_requests"), "%d is out of range: use 1 or more", e.MaxRequests)
}

func (v *validator) positive(section string, values map[string]Duration) {
	for _, key := range slices.Sorted(maps.Keys(values)) {
		v.check(values[key] > 0, append(strings.Split(section, "\x00"), key), "%s must be longer than 0s", key)
	}
}

func (v *validator) admin() {
	a := v.config.Admin
	v.check(a.Listen.Loopback() || a.Token != "", []string{"admin", "listen"},
		"%s is reachable from other machines: set admin.token, or listen on 127.0.0.1", a.Listen)
	v.token([]string{"admin", "token"}, a.Token)
}

// token checks a secret. Its messages don't contain it.
func (v *validator) token(path []string, token string) {
	v.check(token == "" || len(token) >= 16, path, "token has %d characters: use 16 or more", len(token))
	v.check(strings.Trim(token, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~") == "", path,
		"token must be safe in a URL: use A-Z, a-z, 0-9, -, _, . and ~")
}

func (v *validator) mesh() {
	m := v.config.Mesh
	at := func(key string) []string { return []string{"mesh", key} }
	if m.URL != "" {
		v.check(strings.HasPrefix(m.URL, "nats://") || strings.HasPrefix(m.URL, "tls://"), at("url"),
			"url must begin with nats:// or tls://")
	}
	if m.Prefix != "" {
		v.check(m.URL != "", at("prefix"), "prefix goes with mesh.url: the embedded server needs none")
		bad := slices.ContainsFunc(strings.Split(m.Prefix, "."), func(token string) bool { return !validToken(token) })
		v.check(!bad, at("prefix"), "%q is not a prefix: use tokens of A-Z, a-z, 0-9, - and _ joined by dots", m.Prefix)
	}
	v.token(at("token"), m.Token)
	for i, name := range m.GatherUpstreams {
		if name != "*" {
			v.declared(append(at("gather_upstreams"), strconv.Itoa(i)), name)
		}
	}
	for i, name := range m.MemberCalls {
		v.check(name == "*" || ValidName(name), append(at("member_calls"), strconv.Itoa(i)),
			"%q is not the name of a service: use a-z, 0-9, - and _, or * for all", name)
	}
	if m.Cluster.Enabled() {
		v.cluster(m)
	}
	v.leaf(&m)
}

func (v *validator) cluster(m Mesh) {
	c := m.Cluster
	at := func(keys ...string) []string { return append([]string{"mesh", "cluster"}, keys...) }
	v.check(m.URL == "", at(), "cluster goes with the embedded server: leave it out with mesh.url")
	v.check(m.URL != "" || m.Token != "", []string{"mesh", "token"},
		"the nodes of a cluster need one member token: set the same mesh.token on all")
	if c.Name == "" {
		v.report(at("name"), "cluster needs a name, the same on all its nodes: a-z, 0-9, - and _")
	} else {
		v.name(at("name"), c.Name)
	}
	v.check(len(c.Peers) > 0, at("peers"),
		"cluster needs peers: list the addresses where its nodes listen for each other, such as [10.0.0.1:6222, "+
			"10.0.0.2:6222, 10.0.0.3:6222]")
	v.peers(at("peers"), c.Peers)
	_, port := c.Listen.split()
	v.check(port > 0, at("listen"),
		"%s has no port of its own: name the one that stands in the peers of the other nodes, such as 6222", c.Listen)
	v.check(c.Listen.Loopback() || c.Token != "", at("listen"),
		"%s is reachable from other machines: set mesh.cluster.token, or listen on 127.0.0.1", c.Listen)
	v.token(at("token"), c.Token)
}

// peers checks that each peer can be reached and is listed once: their number determines how many nodes must agree.
func (v *validator) peers(path []string, peers []Address) {
	seen := map[string]Address{}
	for i, p := range peers {
		at := append(slices.Clip(path), strconv.Itoa(i))
		endpoints := p.endpoints()
		v.check(len(endpoints) > 0, at, "%s is not where a node can be reached: name host and port", p)
		if j := slices.IndexFunc(endpoints, func(endpoint string) bool { return seen[endpoint] != "" }); j >= 0 {
			v.report(at, "%s is %s again: list each node once", p, seen[endpoints[j]])
		}
		for _, endpoint := range endpoints {
			seen[endpoint] = p
		}
	}
}

// retry checks when requests are repeated and targets are ejected.
func (v *validator) retry(at keyPath, u Upstream) {
	r, e := u.Retry, u.Eject
	v.check(r.Tries >= 1 && r.Tries <= MaxTries, at("retry", "tries"), "%d is out of range: use 1 to %d", r.Tries,
		MaxTries)
	v.check(r.Budget >= 0 && r.Budget <= 100, at("retry", "budget"), "%d is out of range: use 0 to 100", r.Budget)
	v.check(r.TryTimeout >= 0, at("retry", "try_timeout"), "%s is negative: use 0s or more", r.TryTimeout.Std())
	v.check(u.Timeout <= 0 || r.TryTimeout < u.Timeout, at("retry", "try_timeout"),
		"%s leaves no time for another try: use less than the timeout of %s", r.TryTimeout.Std(), u.Timeout.Std())
	v.failureStatuses(at, "retry", r.On)
	v.failureStatuses(at, "eject", e.On)
	v.check(e.Failures >= 0, at("eject", "failures"), "%d is out of range: use 1 or more, or 0 for never", e.Failures)
	v.check(r.Hedge >= 0, at("retry", "hedge"), "%s is negative: use 0s or more", r.Hedge.Std())
	v.check(u.Timeout <= 0 || r.Hedge < u.Timeout, at("retry", "hedge"),
		"%s is out of range: use 0s, or less than the timeout of %s", r.Hedge.Std(), u.Timeout.Std())
	v.check(r.Hedge == 0 || r.Tries > 1, at("retry", "hedge"),
		"a hedge is a second try: set tries to 2 or more, or leave hedge out")
	v.check(e.Rate >= 0 && e.Rate <= 100, at("eject", "rate"), "%d is out of range: use 0 to 100", e.Rate)
	v.check(e.Slow == 0 || e.Slow >= 2, at("eject", "slow"), "%d is out of range: use 2 or more, or 0 for never",
		e.Slow)
	v.check(e.Most >= 0 && e.Most <= 100, at("eject", "most"), "%d is out of range: use 0 to 100", e.Most)
	v.check(e.SlowStart >= 0, at("eject", "slow_start"), "%s is negative: use 0s or more", e.SlowStart.Std())
}

// failureStatuses checks which statuses count as a target's failure. A status below 500 is about the request, and other
// targets would return it too.
func (v *validator) failureStatuses(at keyPath, key string, list Statuses) {
	for i, status := range list {
		path := at(key, "on", strconv.Itoa(i))
		v.check(status >= 500 && status <= 599, path, "%d doesn't say that a target failed: use 500 to 599", status)
		v.check(!slices.Contains(list[:i], status), path, "status %d is listed twice", status)
	}
}

func (v *validator) upstream(name string, u Upstream) {
	at := func(keys ...string) []string { return append([]string{"upstreams", name}, keys...) }
	v.name(at(), name)
	switch {
	case u.Remote && len(u.Targets) > 0:
		v.report(at("remote"), "an upstream with targets is served here: leave remote out")
	case !u.Remote && len(u.Targets) == 0:
		v.report(at(), "upstream %q has no targets: add one, or remote: true if other nodes serve it", name)
	}
	seen := map[BaseURL]bool{}
	for i, t := range u.Targets {
		path := at("targets", strconv.Itoa(i))
		v.check(!seen[t.URL], path, "target %s is listed twice: give it a weight instead", t.URL)
		v.notOwnEdge(path, t.URL)
		v.check(t.Weight > 0 && t.Weight <= 1000, path, "weight %d is out of range: use 1 to 1000", t.Weight)
		seen[t.URL] = true
	}
	v.positive("upstreams\x00"+name, map[string]Duration{"connect_timeout": u.ConnectTimeout})
	v.check(u.Timeout >= 0, at("timeout"), "%s is negative: leave it out for the routes' timeouts alone",
		u.Timeout.Std())
	v.check(u.MaxRequests > 0, at("max_requests"), "%d is out of range: use 1 or more", u.MaxRequests)
	v.check(u.Resolve == 0 || u.Resolve >= Duration(time.Second), at("resolve"),
		"%s is too often: use 1s or more, or 0s for never", u.Resolve.Std())
	v.retry(at, u)
	v.concurrency(at, u.Concurrency)
	v.canary(at, u)
	if h := u.Health; h != nil {
		v.check(h.Panic >= 0 && h.Panic <= 100, at("health", "panic"), "%d is out of range: use 0 to 100", h.Panic)
		v.check(strings.HasPrefix(h.Path, "/"), at("health", "path"), "path %q doesn't begin with /", h.Path)
		v.healthPath(at("health", "path"), h.Path)
		v.positive("upstreams\x00"+name+"\x00health", map[string]Duration{"interval": h.Interval, "timeout": h.Timeout})
		v.check(h.Fails > 0, at("health", "fails"), "%d is out of range: use 1 or more", h.Fails)
		v.check(h.Passes > 0, at("health", "passes"), "%d is out of range: use 1 or more", h.Passes)
	}
}

// healthPath checks a path that is sent unchanged.
func (v *validator) healthPath(at []string, path string) {
	encoded, err := EncodeWritten(path)
	switch {
	case err != nil:
		v.report(at, "path %q: %s", path, err)
	case encoded != path:
		v.report(at, "path %q must be written percent-encoded: %s", path, encoded)
	}
}

func (v *validator) concurrency(at func(...string) []string, c Concurrency) {
	v.check(c.MaxQueue >= 0 && c.MaxQueue <= 100_000, at("concurrency", "max_queue"),
		"%d is out of range: use 0 to 100000", c.MaxQueue)
	v.check(c.MaxWait > 0, at("concurrency", "max_wait"), "%s is no time to wait: use max_queue: 0 to refuse at once",
		c.MaxWait.Std())
	var standard Concurrency
	standard.Defaults()
	if c.Max <= 0 { // no request waits
		v.check(c.MaxQueue == standard.MaxQueue, at("concurrency", "max_queue"),
			"requests wait for a number of places only: set max to one, or leave max_queue out")
		v.check(c.MaxWait == standard.MaxWait, at("concurrency", "max_wait"),
			"requests wait for a number of places only: set max to one, or leave max_wait out")
	}
}

func (v *validator) canary(at func(...string) []string, u Upstream) {
	canaries := 0
	for _, t := range u.Targets {
		if t.Canary {
			canaries++
		}
	}
	c := u.Canary
	switch {
	case c == nil:
		v.check(canaries == 0, at("targets"),
			"a target is a canary, but nothing says which requests it gets: add canary: {percent: 5} to the upstream")
		return
	case canaries == 0 || canaries == len(u.Targets):
		v.report(at("canary"), "some targets, but not all, must have canary: true")
	}
	v.check(c.Percent >= 0 && c.Percent <= 100, at("canary", "percent"), "%d is out of range: use 0 to 100", c.Percent)
	v.check(c.Header == "" || validFieldName(c.Header), at("canary", "header"), "%q is not a header field's name",
		c.Header)
	v.check(c.Header != "" || c.Percent > 0, at("canary"), "no request goes to a canary: set percent or header")
}

func (v *validator) route(i int) {
	r := v.config.Routes[i]
	at := func(key string) []string { return []string{"routes", strconv.Itoa(i), key} }
	if r.Name != "" {
		v.name(at("name"), r.Name)
	}
	v.check(!slices.Contains(reservedNames, r.Name), at("name"), "the name %q belongs to Millrace's own counts: "+
		"give the route another", r.Name)
	v.check(!r.BuffersBody() || r.MaxBody <= MaxMessageBody, at("max_body"),
		"%s is more than the %s that one message carries, and only services and upstreams take streams", r.MaxBody,
		MaxMessageBody)
	if r.To.Kind == KindUpstream {
		v.declared(at("to"), r.To.Name)
	}
	v.siteRoute(i, &r)
	v.answers(i, &r)
	if r.Gather != nil {
		v.gather(i, &r)
	}
	v.refs(at("to"), &r, r.To.Subject.Refs())
	slash := slices.ContainsFunc(r.Path.Segments, func(s Segment) bool { return strings.Contains(s.Literal, "%2F") })
	v.check(!slash || r.EncodedSlash == EncodedSlashKeep, at("path"), "requests with an encoded slash are refused "+
		"here: set encoded_slash: keep, or write / for two segments")
	v.upgrade(i, &r)
	v.check(len(r.ForwardHeaders) == 0 || r.Origin().Kind == KindNATS, at("forward_headers"),
		"forward_headers is for nats targets: others get all end-to-end headers")
	for _, h := range r.ForwardHeaders {
		low := strings.ToLower(h)
		ours := strings.HasPrefix(low, "nats-") || strings.HasPrefix(low, "millrace-") || strings.HasPrefix(low, "kv-")
		v.check(validFieldName(h) && !ours, at("forward_headers"), "%q can't be forwarded as a NATS header", h)
	}
	if r.Cache != nil {
		v.cache(func(keys ...string) []string { return append([]string{"routes", strconv.Itoa(i)}, keys...) }, r.Cache)
	}
	v.routeLimits(i)
	seen := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(r.Match.Headers)) {
		low := strings.ToLower(name)
		path := append(at("match"), "headers", name)
		v.check(validFieldName(name), path, "%q is not a header field name", name)
		v.check(seen[low] == "", path, "%q is %q again: header field names don't differ by case", name, seen[low])
		seen[low] = name
	}
}

func validFieldName(s string) bool {
	const token = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~"
	return s != "" && strings.Trim(s, token) == ""
}

// routeNames reports routes with the same configured name. Derived names avoid configured ones.
func (v *validator) routeNames() {
	first := map[string]int{}
	for i := range v.config.Routes {
		name := v.config.Routes[i].Name
		j, again := first[name]
		switch {
		case name == "":
		case again:
			v.report([]string{"routes", strconv.Itoa(i), "name"},
				"routes[%d] has the name %q too: give this route another", j, name)
			v.problems[len(v.problems)-1].Other = []string{"routes", strconv.Itoa(j)}
		default:
			first[name] = i
		}
	}
}
