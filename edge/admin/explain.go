package admin

import (
	"net/http"
	"strings"

	"millrace/edge"
	"millrace/mesh"
	"millrace/mesh/upstream"
)

// Explainer answers for routes and explain.
type Explainer interface {
	// Routes lists the routes that are served now.
	Routes() []edge.RouteInfo
	// Explain says what would become of a request, and sends none.
	Explain(method, target string, header mesh.Header) Explanation
}

// Explanation says what would become of a request: what the edge would do with it, how the upstreams are that this node
// would ask, and who serves the services.
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
