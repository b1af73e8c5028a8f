package edge

import (
	"context"

	"millrace/mesh"
	"millrace/node"
)

// Ending gives the handler of a route with an end of the test's own in place of its target.
func (s *Server) Ending(r node.Route, end Handler) Handler {
	made := s.newRoute(r, r.ID(), end)
	return func(ctx context.Context, x *Exchange) (*mesh.Response, error) {
		s.enter(x)
		x.route = made
		return made.handler(ctx, x)
	}
}
