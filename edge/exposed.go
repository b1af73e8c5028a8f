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

// maxSeen bounds the names that seenNames remembers. Names that are served are those of an application's services, so
// this is far more than a mesh has.
const maxSeen = 4096

// seenNames remembers which services somebody has served since the start of this node. Looking costs no lock and no
// memory, since requests do. The zero value is ready, and safe for concurrent use.
type seenNames struct {
	mu    sync.Mutex // held by who changes names
	names atomic.Pointer[map[string]struct{}]
}

// has reports whether the name is remembered.
func (s *seenNames) has(name string) bool {
	names := s.names.Load()
	if names == nil {
		return false
	}
	_, ok := (*names)[name]
	return ok
}

// add remembers the name. When there are too many the memory starts over; those that are served are soon back.
func (s *seenNames) add(name string) {
	if s.has(name) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	next := map[string]struct{}{strings.Clone(name): {}} // name may be a part of a long path
	if names := s.names.Load(); names != nil && len(*names) < maxSeen {
		maps.Copy(next, *names)
	}
	s.names.Store(&next)
}

var errNeverServed = node.Errorf(node.CodeNotFound, nil,
	"no route matches the request, and nobody serves a service of that name")

// callExposed asks the service that the path's first segment names; the router made sure that it is a name. Clients
// make names up, so one that nobody has served since the start is not found, while a service that has lost its members
// is away.
func (s *Server) callExposed(ctx context.Context, x *exchange.Exchange) (*mesh.Response, error) {
	name := firstSegment(x.Path)
	to := s.mesh.Service(name)
	if x.Forward.Stream != nil && !s.seen.has(name) {
		if served, known := s.mesh.Served(to); known && !served {
			return nil, errNeverServed // rather than read a long body for nobody
		}
	}
	resp, err := s.ask(ctx, to, x)
	switch code := node.CodeOf(err); {
	case err == nil || reached(code):
		s.seen.add(name)
	case code == node.CodeNoMember && !s.seen.has(name):
		return nil, errNeverServed
	}
	return resp, err
}

// reached reports whether a request that ended so has been taken by a member: the other ways to end are open to a name
// that nobody serves.
func reached(code node.Code) bool {
	return slices.Contains([]node.Code{
		node.CodeTimeout, node.CodeBadReply, node.CodeInternal, node.CodeUpstream, node.CodeNoTarget,
	}, code)
}
