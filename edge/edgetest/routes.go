package edgetest

import "millrace/node"

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
