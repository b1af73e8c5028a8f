package edge

import (
	"context"
	"maps"
	"net/url"
	"slices"
	"strings"

	"millrace/edge/exchange"
	"millrace/mesh"
	"millrace/node"
)

// end returns the end of a route's chain: redirect, gather, fixed response or target, with the route's rewrite rules.
// It comes after the cache, so cache keys are made of the client's request, and stored responses are already rewritten.
func (s *Server) end(r node.Route) exchange.Handler {
	switch {
	case r.Redirect != nil:
		return editResponses(r.Rewrite, redirect(r.Redirect))
	case r.Gather != nil:
		return s.gatherer(&r, routeCalls(&r)).Handle // which applies the response rules itself
	case r.Respond != nil:
		return editResponses(r.Rewrite, respond(r.Respond))
	}
	return editResponses(r.Rewrite, rewriteTargets(r.Rewrite, s.targetHandler(r)))
}

// editResponses wraps next so that the route's response rules are applied.
func editResponses(w *node.Rewrite, next exchange.Handler) exchange.Handler {
	if w == nil || w.Response.None() {
		return next
	}
	return func(ctx context.Context, x *exchange.Exchange) (*mesh.Response, error) {
		resp, err := next(ctx, x)
		if err == nil {
			exchange.Edit(&resp.Header, &w.Response)
		}
		return resp, err
	}
}

// rewriteTargets wraps next so that the route's rules for path and query are applied. exchange.Prepare applies the
// other request rules.
func rewriteTargets(w *node.Rewrite, next exchange.Handler) exchange.Handler {
	if w == nil || (w.Path.String() == "" && w.Query.None()) {
		return next
	}
	return func(ctx context.Context, x *exchange.Exchange) (*mesh.Response, error) {
		if err := rewrite(x, w); err != nil {
			return nil, err
		}
		return next(ctx, x)
	}
}

// rewrite sets the exchange's target by the rules for path and query.
func rewrite(x *exchange.Exchange, w *node.Rewrite) error {
	path, query := x.Path, x.Query
	if w.Path.String() != "" {
		target, err := w.Path.Expand(x.PathValue)
		if err != nil {
			return node.Errorf(node.CodeInvalid, err, "a value can't be put into the route's path")
		}
		path, query = joinQuery(target, query)
	}
	x.SetTarget(path + editQuery(query, &w.Query))
	return nil
}

// joinQuery splits a target into path and query, and appends the query more. Both queries begin with a question mark or
// are empty.
func joinQuery(target, more string) (path, query string) {
	path, query, _ = strings.Cut(target, "?")
	switch {
	case query == "":
		return path, more
	case len(more) > 1:
		return path, "?" + query + "&" + more[1:]
	}
	return path, "?" + query
}

// editQuery edits the parameters of a query, which begins with its question mark or is empty. The other parameters keep
// the client's spelling.
func editQuery(query string, e *node.Edits) string {
	if e.None() {
		return query
	}
	var kept []string
	if query != "" {
		for pair := range strings.SplitSeq(query[1:], "&") {
			raw, _, _ := strings.Cut(pair, "=")
			name, err := url.QueryUnescape(raw)
			_, set := e.Set[name]
			if err != nil || raw == "" || (!set && !slices.Contains(e.Remove, name)) {
				kept = append(kept, pair)
			}
		}
	}
	for _, more := range []map[string]string{e.Set, e.Add} {
		for _, name := range slices.Sorted(maps.Keys(more)) {
			kept = append(kept, url.QueryEscape(name)+"="+url.QueryEscape(more[name]))
		}
	}
	if len(kept) == 0 {
		return ""
	}
	return "?" + strings.Join(kept, "&")
}

// redirect returns a handler that answers with a redirect. The client's query is kept unless the new location has one.
func redirect(d *node.Redirect) exchange.Handler {
	return func(_ context.Context, x *exchange.Exchange) (*mesh.Response, error) {
		to, err := d.To.Path.Expand(x.PathValue)
		if err != nil {
			return nil, node.Errorf(node.CodeInvalid, err,
				"a value can't be put into the place that the route leads to")
		}
		path, query, own := strings.Cut(to, "?")
		if !own && len(x.Query) > 1 {
			query = x.Query[1:]
		}
		if query != "" {
			query = "?" + query
		}
		at := ""
		if d.To.Scheme != "" && d.To.Host == "" && x.Host == "" {
			return nil, node.Errorf(node.CodeInvalid, nil,
				"the request names no host, which the redirect would lead to")
		}
		if d.To.Scheme != "" {
			at = d.To.Scheme + "://" + d.To.Host
			if d.To.Host == "" {
				at += x.Host
			}
		} else {
			path = "/" + strings.TrimLeft(path, "/") // two slashes would start a host name
		}
		return &mesh.Response{Status: d.Status, Header: mesh.Header{{Name: "Location", Value: at + path + query}}}, nil
	}
}

// respond returns a handler that answers with the response of the configuration.
func respond(a *node.Respond) exchange.Handler {
	var header mesh.Header
	for _, name := range slices.Sorted(maps.Keys(a.Headers)) {
		header.Add(name, a.Headers[name])
	}
	if a.Body != "" && !header.Has("Content-Type") {
		header.Add("Content-Type", "text/plain; charset=utf-8")
	}
	body := []byte(a.Body)
	return func(context.Context, *exchange.Exchange) (*mesh.Response, error) {
		resp := &mesh.Response{Status: a.Status, Header: slices.Clone(header), Body: slices.Clone(body)}
		return dropResetContent(resp), nil
	}
}
