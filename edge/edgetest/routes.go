package edgetest

import (
	"net/netip"
	"testing"

	"millrace/node"
)

// Route makes a route to the service s.
func Route(name, path string, change ...func(*node.Route)) node.Route {
	p, err := node.ParsePattern(path)
	if err != nil {
		panic(err)
	}
	r := node.Route{Name: name, Path: p, To: node.Target{Kind: node.KindService, Name: "s"}}
	for _, f := range change {
		f(&r)
	}
	return r
}

// Methods narrows a route to methods.
func Methods(ms ...node.Method) func(*node.Route) { return func(r *node.Route) { r.Methods = ms } }

// Host narrows a route to a host.
func Host(h node.Host) func(*node.Route) { return func(r *node.Route) { r.Host = h } }

// Needs narrows a route to requests with a header field.
func Needs(name, value string) func(*node.Route) {
	return func(r *node.Route) { r.Match.Headers = map[string]string{name: value} }
}

// ToUpstream makes the rig's route lead to the upstream app.
func ToUpstream(s *Config) { s.Routes[0].To = node.Target{Kind: node.KindUpstream, Name: "app"} }

// CachedRoute is a route to the origin with the standard cache, changed.
func CachedRoute(path string, change func(*node.Cache), also ...func(*node.Route)) node.Route {
	r := Route("", path, also...)
	r.To.Name = "origin"
	r.Cache = &node.Cache{}
	r.Cache.Defaults()
	if change != nil {
		change(r.Cache)
	}
	return r
}

// RequestParts reads parts of requests as a configuration has them: header:X-Tenant.
func RequestParts(names ...string) []node.RequestPart {
	var out []node.RequestPart
	for _, name := range names {
		var p node.RequestPart
		if err := p.UnmarshalText([]byte(name)); err != nil {
			panic(err)
		}
		out = append(out, p)
	}
	return out
}

// Prefix reads an IP prefix.
func Prefix(s string) node.Prefix { return node.Prefix{Prefix: netip.MustParsePrefix(s)} }

// Subject reads a subject.
func Subject(tb testing.TB, s string) node.Subject {
	tb.Helper()
	out, err := node.ParseSubject(s)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// Prefixes reads IP prefixes, and addresses, as a configuration has them.
func Prefixes(list ...string) []node.Prefix {
	var out []node.Prefix
	for _, text := range list {
		var p node.Prefix
		if err := p.UnmarshalText([]byte(text)); err != nil {
			panic(err)
		}
		out = append(out, p)
	}
	return out
}

// LimitedRoute is a route to the service echo whose name, and so that of its first limit, is name, under /name.
func LimitedRoute(name string, limits ...node.Limit) node.Route {
	return Route(name, "/"+name+"/*", func(r *node.Route) { r.To.Name, r.Limit = "echo", limits })
}

// EchoRoute is a route to the service echo.
func EchoRoute(path string) node.Route {
	r := Route("", path)
	r.To.Name = "echo"
	return r
}

// ProxyRoute is a route to the upstream app.
func ProxyRoute(path string) node.Route {
	r := Route("", path)
	r.To = node.Target{Kind: node.KindUpstream, Name: "app"}
	return r
}
