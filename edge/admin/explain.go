package admin

import (
	"net/http"
	"strings"

	"millrace/edge"
	"millrace/mesh"
	"millrace/mesh/upstream"
)

// Explainer is what the pages routes and explain need of the node.
type Explainer interface {
	// Routes lists the routes that are served now.
	Routes() []edge.RouteInfo
	// Explain says how a request would be handled, and sends none.
	Explain(method, target string, header mesh.Header) Explanation
}

// Explanation says how a request would be handled: by the edge, with the state of the upstreams and the members of the
// services that it would reach.
type Explanation struct {
	edge.Explanation

	Upstreams []upstream.Status `json:"upstreams,omitempty"`
	Services  *Services         `json:"services,omitempty"`
}

func routesPage(node Explainer) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, node.Routes()) }
}

func explainPage(node Explainer) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		method, target := q.Get("method"), q.Get("url")
		if method == "" {
			method = http.MethodGet
		}
		if target == "" {
			refuse(w, http.StatusBadRequest, "name the request: /v1/explain?method=GET&url=/path")
			return
		}
		var header mesh.Header
		for _, line := range q["header"] {
			if name, value, ok := strings.Cut(line, ":"); ok {
				header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
			}
		}
		reply(w, http.StatusOK, node.Explain(method, target, header))
	}
}
