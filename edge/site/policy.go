package site

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"

	"millrace/edge/exchange"
	"millrace/mesh"
	"millrace/node"
)

// Policy serves the sites of one route. New settings make a new one.
type Policy struct {
	room     *Room
	route    *exchange.Route
	parts    []part
	rewrite  string // the route's rewrite of the path
	passesOn bool   // what the sites don't have goes on to the route's origin
	preview  string // host of the previews that the route serves, with its star; "" if it serves what is live
	next     exchange.Handler
	behind   *exchange.Short // see Room.Policy
}

// part is one of the route's sites.
type part struct {
	name  string
	site  Site
	table atomic.Pointer[table]
}

// Of returns the sites of a route; nil if it serves none.
func Of(r *exchange.Route) *Policy { return exchange.Of[*Policy](r) }

// Policy returns the policy of a route with sites. A route whose host begins with a star, as that of Preview does,
// serves the previews of its first site. behind is the short form of the policy that stands behind the sites; nil if it
// has none. It may have Answer and Done only.
func (r *Room) Policy(route *exchange.Route, behind *exchange.Short) exchange.Policy {
	p := r.policy(route)
	p.behind = behind
	out := exchange.Policy{Name: "site", Wrap: p.wrap, Reads: p.reads, Value: p}
	if host := string(route.Host); strings.HasPrefix(host, "*") {
		p.preview = host
	} else {
		out.Short = &exchange.Short{Answer: p.answerNow, Done: p.done}
	}
	return out
}

func (r *Room) policy(route *exchange.Route) *Policy {
	p := &Policy{room: r, route: route, passesOn: route.Origin().Kind != ""}
	names := route.Sites()
	p.parts = make([]part, len(names))
	for i, name := range names {
		p.parts[i].name, p.parts[i].site = name, r.sites.Site(name)
	}
	if w := route.Rewrite; w != nil {
		p.rewrite = w.Path.String()
	}
	return p
}

// reads reports whether the sites read the request field.
func (p *Policy) reads(field string) bool {
	for _, name := range [...]string{
		"Accept", "Accept-Encoding", "Sec-Fetch-Mode", "Range", "If-Range", "If-Match", "If-None-Match",
	} {
		if node.SameName(field, name) {
			return true
		}
	}
	return false
}

func (p *Policy) wrap(next exchange.Handler) exchange.Handler {
	p.next = next
	return p.handle
}

// handle answers from the sites, or from what stands behind them.
func (p *Policy) handle(ctx context.Context, x *exchange.Exchange) (*mesh.Response, error) {
	get := x.Method == http.MethodGet || x.Method == http.MethodHead
	if p.preview != "" && p.previewOf(x.Host) == nil { // nobody reaches the origin by a host that he made up
		return nil, errNoPreview
	}
	if p.passesOn && (!get || x.Upgrade.Socket) {
		return p.next(ctx, x)
	}
	if !get {
		x.Outcome.Allow = "GET, HEAD"
		return nil, errMethod
	}
	path, before, ok := p.path(x)
	if ok && path == "" { // the folder that the route leads to, without its slash: links would lead elsewhere
		return p.moved(x, &found{}, before+"/"), nil
	}
	f, err := p.search(x, path, ok)
	switch {
	case err != nil:
		return nil, err
	case !f.none() && f.File == nil && f.Location != "":
		return p.moved(x, &f, within(before, f.Location)), nil
	case f.File != nil:
		return p.serve(ctx, x, &f, path)
	case p.passesOn:
		return p.next(ctx, x)
	}
	return nil, errNoFile
}

// search returns the answer to a path; none if the path can't be one of a file.
func (p *Policy) search(x *exchange.Exchange, path string, possible bool) (f found, err error) {
	if p.preview != "" {
		if f, ok := p.findPreview(x, path); ok {
			return f, nil
		}
		return f, errNoPreview
	}
	if !possible {
		return f, nil
	}
	if f = p.find(x, path); f.none() && !p.passesOn {
		return f, errEmpty
	}
	return f, nil
}

var (
	errMethod    = node.Errorf(node.CodeMethod, nil, "the path doesn't take this method")
	errNoFile    = node.Errorf(node.CodeNotFound, nil, "the site has nothing at this path")
	errNoPreview = node.Errorf(node.CodeNotFound, nil, "the site has no such preview")
	errEmpty     = node.Errorf(node.CodeSiteEmpty, nil, "nothing has been published to the site yet")
)
