package node_test

import (
	"errors"
	"fmt"

	"millrace/node"
)

// Validate returns the path of each problem.
func ExampleConfig_Validate() {
	c := node.Default()
	path, err := node.ParsePattern("/orders/{id}")
	if err != nil {
		fmt.Println(err)
		return
	}
	c.Edge.MaxRequests = 0
	c.Routes = []node.Route{{Path: path, To: node.Target{Kind: node.KindUpstream, Name: "orders"}}}
	for _, p := range c.Validate() {
		fmt.Println(p.Path, p.Message)
	}
	// Output:
	// [edge max_requests] 0 is out of range: use 1 or more
	// [routes 0 to] upstream "orders" is not declared under upstreams
}

// Of two patterns the narrower one wins. If neither is narrower, the configuration is refused.
func ExamplePattern_Compare() {
	names := map[node.Relation]string{
		node.Narrower: "narrower", node.Wider: "wider", node.Overlap: "ambiguous",
		node.Disjoint: "disjoint",
	}
	for _, pair := range [][2]string{
		{"/users/me", "/users/{id}"},
		{"/users/*", "/users"},
		{"/{a}/list", "/users/{b}"},
		{"/a", "/b"},
	} {
		a, errA := node.ParsePattern(pair[0])
		b, errB := node.ParsePattern(pair[1])
		if err := errors.Join(errA, errB); err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(a, b, names[a.Compare(b)])
	}
	// Output:
	// /users/me /users/{id} narrower
	// /users/* /users wider
	// /{a}/list /users/{b} ambiguous
	// /a /b disjoint
}

// A path parameter becomes a subject token only if it can't be more than that.
func ExampleSubject_Expand() {
	s, err := node.ParseSubject("orders.get.{id}")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, id := range []string{"17", "17.delete", "*"} {
		fmt.Println(s.Expand(func(string) string { return id }))
	}
	// Output:
	// orders.get.17 <nil>
	//  path parameter can't be a subject token
	//  path parameter can't be a subject token
}

func ExampleRoute_ID() {
	path, err := node.ParsePattern("/orders/{id}")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(node.Route{Host: "api.example.com", Methods: []node.Method{"GET"}, Path: path}.ID())
	// Output: get-api_example_com-orders-id
}

// A limit is counted, reported and shown by its name.
func ExampleRoute_LimitID() {
	route := node.Route{Name: "search", Limit: make(node.Limits, 3)}
	for i, text := range []string{"20/s", "10000/day", "tenant"} {
		if err := route.Limit[i].UnmarshalText([]byte(text)); err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(text, "is", route.LimitID(i))
	}
	// Output:
	// 20/s is search
	// 10000/day is search-2
	// tenant is tenant
}
