package embedded

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"millrace/edge/admin"
	"millrace/mesh"
	"millrace/node"
)

// censusTime bounds the question who serves.
const censusTime = 3 * time.Second

// Services lists the services that routes ask or members serve, with their members anywhere in the mesh.
func (n *Node) Services(ctx context.Context) admin.Services {
	ctx, cancel := context.WithTimeout(ctx, censusTime)
	defer cancel()
	out := admin.Services{List: []admin.Service{}}
	members, err := n.mesh.Census(ctx, n.servers())
	if err != nil {
		out.Unknown = err.Error()
	}
	routes := askedServices(*n.applied.Load())
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

// nonNil lets an empty list be one in JSON, too.
func nonNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// servers is how many NATS servers the mesh has; 0 if this node can't know.
func (n *Node) servers() int {
	if n.nats == nil {
		return 0
	}
	return 1 + n.nats.Routes()
}

// askedServices lists by service the routes that ask it.
func askedServices(cfg node.Config) map[string][]string {
	out := map[string][]string{}
	add := func(to node.Target, route string) {
		if to.Kind == node.KindService && !slices.Contains(out[to.Name], route) {
			out[to.Name] = append(out[to.Name], route)
		}
	}
	for i := range cfg.Routes {
		r := &cfg.Routes[i]
		add(r.To, r.ID())
		if r.Gather != nil {
			for _, call := range r.Gather.Calls {
				add(call.To, r.ID())
			}
		}
	}
	for _, name := range cfg.Edge.Expose {
		if name != "*" {
			add(node.Target{Kind: node.KindService, Name: name}, name)
		}
	}
	return out
}

// Explain says what would become of a request.
func (n *Node) Explain(method, target string, header mesh.Header) admin.Explanation {
	e := admin.Explanation{Explanation: n.edge.Explain(method, target, header)}
	for _, u := range n.upstreams.Status() {
		if slices.Contains(e.Asked(), "upstream:"+u.Name) {
			e.Narrow(u.Name, u.Timeout.Std())
			if len(e.Calls) == 0 { // calls have paths and hosts of their own
				asked := e.Path + e.Query
				if i := strings.IndexByte(e.Asks, '/'); i >= 0 { // behind the host
					asked = e.Asks[i:]
				}
				u.Next = n.upstreams.Foresee(u.Name, &mesh.Request{Method: method, Target: asked, Header: header})
			}
			e.Upstreams = append(e.Upstreams, u)
		}
	}
	e.Services = n.explainServices(e.Asked())
	return e
}

func byName(s admin.Service, name string) int { return cmp.Compare(s.Name, name) }

// explainServices says who serves the services among the targets; nil if none is one.
func (n *Node) explainServices(targets []string) *admin.Services {
	var names []string
	for _, target := range targets {
		if name, ok := strings.CutPrefix(target, "service:"); ok && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	all := n.Services(context.Background())
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
