package site

import (
	"net/http"
	"strings"

	"millrace/edge/exchange"
	"millrace/kvcache/httpcache"
	"millrace/mesh"
	"millrace/node/site"
)

// moved answers with a redirect. The zero found is a redirect of the route itself.
func (p *Policy) moved(x *exchange.Exchange, f *found, location string) *mesh.Response {
	resp := &mesh.Response{
		Status: f.Status,
		Header: mesh.Header{{Name: "Location", Value: withQuery(location, x.Query)}},
	}
	if f.none() {
		resp.Status = http.StatusTemporaryRedirect
	}
	resp.Header.Add("Cache-Control", site.CacheControl(nil, resp.Status))
	if f.deploy != nil {
		resp.Header.Add(deployField, deployID(f.deploy.ID))
		resp.Header.Add("Cache-Status", string(status.Append(nil)))
		x.Outcome.Cache = status
	}
	if p.preview != "" {
		markPreview(&resp.Header)
	}
	if w := p.route.Rewrite; w != nil {
		exchange.Edit(&resp.Header, &w.Response)
	}
	return resp
}

// status is what Cache-Status says of a response that this node had.
var status = httpcache.Status{Hit: true, Detail: "site"}

// within returns the location on the route of a location in the site. before is what the route's rewrite cuts off.
func within(before, location string) string {
	if before == "" || !strings.HasPrefix(location, "/") || strings.HasPrefix(location, "//") {
		return location
	}
	return before + location
}

// withQuery adds the query of a request, which begins with its question mark, to a location that has none.
func withQuery(location, query string) string {
	return site.AddQuery(location, strings.TrimPrefix(query, "?"))
}
