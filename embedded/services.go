package embedded

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"millrace/edge"
	"millrace/edge/admin"
	"millrace/mesh"
	"millrace/node"
)

// services finds out which members serve the services of the mesh.
type services struct {
	applied *atomic.Pointer[node.Config]
	nats    *natsServer
	mesh    *meshConn
}

// censusTime bounds the wait for the answers of all servers.
const censusTime = 3 * time.Second

// list returns the services that routes forward to or members serve, with their members anywhere in the mesh.
func (s *services) list(ctx context.Context) admin.Services {
	ctx, cancel := context.WithTimeout(ctx, censusTime)
	defer cancel()
	out := admin.Services{List: []admin.Service{}}
	members, err := s.mesh.conn.Census(ctx, s.nats.servers())
	if err != nil {
		out.Unknown = err.Error()
	}
	routes := askedServices(s.applied.Load())
	names := []string{}
	for name := range members {
		names = append(names, name)
	}
	for name := range routes {
		if _, known := members[name]; !known {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		out.List = append(out.List,
			admin.Service{Name: name, Members: nonNil(members[name]), Routes: nonNil(routes[name])})
	}
	return out
}

// nonNil returns an empty list for nil, so that JSON has [] rather than null.
func nonNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// askedServices returns, by service, the routes that forward to it.
func askedServices(cfg *node.Config) map[string][]string {
	out := map[string][]string{}
	add := func(to node.Target, route string) {
		if to.Kind == node.KindService && !slices.Contains(out[to.Name], route) {
			out[to.Name] = append(out[to.Name], route)
		}
	}
	for i := range cfg.Routes {
		r := &cfg.Routes[i]
		for _, to := range r.Targets() {
			add(to, r.ID())
		}
	}
	for _, name := range cfg.Edge.Expose {
		if name != "*" {
			add(node.Target{Kind: node.KindService, Name: name}, name)
		}
	}
	return out
}

// forTargets returns the services among the targets, with their members; nil if no target is a service.
func (s *services) forTargets(targets []string) *admin.Services {
	var names []string
	for _, target := range targets {
		if name, ok := strings.CutPrefix(target, "service:"); ok && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	all := s.list(context.Background())
	out := &admin.Services{Unknown: all.Unknown}
	for _, name := range names {
		found, known := slices.BinarySearchFunc(all.List, name, byName)
		if known {
			out.List = append(out.List, all.List[found])
		} else {
			out.List = append(out.List, admin.Service{Name: name, Members: []mesh.Subscriber{}, Routes: []string{}})
		}
	}
	return out
}

func byName(s admin.Service, name string) int { return cmp.Compare(s.Name, name) }

// explainer tells what becomes of requests. It implements admin.Explainer.
type explainer struct {
	upstreams *upstreams
	edge      *edgeServer
	services  *services
}

// Routes returns the routes that are served now.
func (e *explainer) Routes() []edge.RouteInfo { return e.edge.server.Routes() }

// Explain returns what would become of a request.
func (e *explainer) Explain(method, target string, header mesh.Header) admin.Explanation {
	out := admin.Explanation{Explanation: e.edge.server.Explain(method, target, header)}
	for _, u := range e.upstreams.set.Status() {
		if slices.Contains(out.Asked(), "upstream:"+u.Name) {
			out.Narrow(u.Name, u.Timeout.Std())
			if len(out.Calls) == 0 { // calls have their own paths and hosts
				asked := out.Path + out.Query
				if i := strings.IndexByte(out.Asks, '/'); i >= 0 { // after the host
					asked = out.Asks[i:]
				}
				u.Next = e.upstreams.set.Foresee(u.Name, &mesh.Request{Method: method, Target: asked, Header: header})
			}
			out.Upstreams = append(out.Upstreams, u)
		}
	}
	out.Services = e.services.forTargets(out.Asked())
	return out
}
