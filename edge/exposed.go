package edge

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"millrace/edge/exchange"
	"millrace/mesh"
	"millrace/node"
)

// maxSeen bounds the names that seenNames holds. It is far more than the services of one application.
const maxSeen = 4096

// seenNames is the set of services that somebody has served since the start of this node. Every request to an exposed
// service calls has, so has takes no lock and allocates nothing. The zero value is ready, and safe for concurrent use.
type seenNames struct {
	mu    sync.Mutex // guards the replacing of names; a map in it never changes
	names atomic.Pointer[map[string]struct{}]
}

// has reports whether the name is in the set.
func (s *seenNames) has(name string) bool {
	names := s.names.Load()
	if names == nil {
		return false
	}
	_, ok := (*names)[name]
	return ok
}

// add adds the name. When there are too many, the set is emptied first: services in use are soon added again.
func (s *seenNames) add(name string) {
	if s.has(name) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	next := map[string]struct{}{strings.Clone(name): {}} // a copy, since name may alias a long path
	if names := s.names.Load(); names != nil && len(*names) < maxSeen {
		maps.Copy(next, *names)
	}
	s.names.Store(&next)
}

var errNeverServed = node.Errorf(node.CodeNotFound, nil,
	"no route matches the request, and nobody serves a service of that name")

// callExposed sends the request to the service that the path's first segment names; settings.find has checked that it
// is a valid name. Clients can make names up. So the error for a name that nobody has served since the start is
// node.CodeNotFound, and that for a service without members is node.CodeNoMember.
func (s *Server) callExposed(ctx context.Context, x *exchange.Exchange) (*mesh.Response, error) {
	name := firstSegment(x.Path)
	to := s.mesh.Service(name)
	if x.Forward.Stream != nil && !s.seen.has(name) {
		if served, known := s.mesh.Served(to); known && !served {
			return nil, errNeverServed // before a long body is read
		}
	}
	resp, err := s.send(ctx, to, x)
	switch code := node.CodeOf(err); {
	case err == nil || reached(code):
		s.seen.add(name)
	case code == node.CodeNoMember && !s.seen.has(name):
		return nil, errNeverServed
	}
	return resp, err
}

// reached reports whether an error of this code means that a member has got the request. Requests to a name that nobody
// serves end with other codes.
func reached(code node.Code) bool {
	return slices.Contains([]node.Code{
		node.CodeTimeout, node.CodeBadReply, node.CodeInternal, node.CodeUpstream, node.CodeNoTarget,
	}, code)
}
