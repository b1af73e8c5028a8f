package admin

import (
	"millrace/edge"
	"millrace/mesh/upstream"
)

// Explanation says what would become of a request: what the edge would do with it, how the upstreams are that this node
// would ask, and who serves the services.
type Explanation struct {
	edge.Explanation

	Upstreams []upstream.Status `json:"upstreams,omitempty"`
	Services  *Services         `json:"services,omitempty"`
}
