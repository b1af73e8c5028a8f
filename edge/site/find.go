package site

import (
	"strings"

	"millrace/edge/exchange"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/site"
)

// found is what a site answers to a request.
type found struct {
	site.Answer

	deploy *Deploy
	part   *part // the site, as the route serves it; nil unless deploy is the live one
}

// none reports whether there is no answer.
func (f *found) none() bool { return f.Status == 0 }

// find asks the route's sites in their order for a path. There is no answer if the origin of the route is to give one,
// or if nothing has been published to any of the sites. It doesn't allocate.
func (p *Policy) find(x *exchange.Exchange, path string) (f found) {
	for i := range p.parts {
		part := &p.parts[i]
		state := part.site.State()
		if state.Live == nil {
			continue
		}
		if f = part.ask(state, path); !f.none() {
			return f
		}
		f = found{deploy: state.Live, part: part}
	}
	if f.deploy == nil || p.passesOn {
		return found{}
	}
	f.Answer = f.deploy.Index.Fallback(path, navigates(x.Header))
	return f
}

// ask asks one site for what it has at a path, without its fallbacks: in the live deploy, or a hashed file of another
// one.
func (part *part) ask(state *State, path string) found {
	f := found{state.Live.Index.Find(path), state.Live, part}
	if !f.none() {
		return f
	}
	for _, d := range state.Others {
		if e := d.Index.Asset(path); e != nil {
			return found{site.Answer{Status: 200, File: e, Rule: "file of another deploy"}, d, nil}
		}
	}
	return f
}

// findPreview answers from the preview that the request's host names. ok is false if there is no such preview.
func (p *Policy) findPreview(x *exchange.Exchange, path string) (f found, ok bool) {
	d := p.previewOf(x.Host)
	if d == nil {
		return found{}, false
	}
	f = found{Answer: d.Index.Find(path), deploy: d}
	if f.none() && !p.passesOn {
		f.Answer = d.Index.Fallback(path, navigates(x.Header))
	}
	return f, true
}

// navigates reports whether a browser wants to show the response as a page.
func navigates(h mesh.Header) bool {
	for i := range h {
		switch name := h[i].Name; name[0] | 0x20 {
		case 'a':
			if node.SameName(name, "Accept") && strings.Contains(h[i].Value, "text/html") {
				return true
			}
		case 's':
			if node.SameName(name, "Sec-Fetch-Mode") && h[i].Value == "navigate" {
				return true
			}
		}
	}
	return false
}

// wholeRest is the rewrite.path that cuts off what is before the /* of the route's path.
const wholeRest = "/{*}"

// path returns the path that is looked for in the sites, and what the route's rewrite cuts off before it. ok is false
// if there can be no such file. It doesn't allocate, unless the rewrite is more than wholeRest.
func (p *Policy) path(x *exchange.Exchange) (path, before string, ok bool) {
	switch p.rewrite {
	case "":
		return x.Path, "", true
	case wholeRest:
		rest, _ := x.PathValue(node.Ref{Param: node.Rest}) // never fails for the rest
		cut := len(x.Path) - len(rest)
		if rest == "" && !strings.HasSuffix(x.Path, "/") {
			return "", x.Path, true
		}
		return x.Path[cut-1:], x.Path[:cut-1], true
	}
	path, err := x.Route.Rewrite.Path.Expand(x.PathValue)
	path, _, _ = strings.Cut(path, "?")
	return path, "", err == nil
}
