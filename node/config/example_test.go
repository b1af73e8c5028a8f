package config_test

import (
	"errors"
	"fmt"

	"millrace/node"
	"millrace/node/config"
)

// One run finds every mistake, with its position and what to do.
func ExampleParse() {
	file := `version: 1
edge:
  timeout: 10
upstreams:
  api:
    tagets: [http://127.0.0.1:3000]
routes:
  - {path: /api/*, to: upstream:apis}
`
	_, err := config.Parse("millrace.yaml", []byte(file), nil)
	if mistakes, ok := errors.AsType[config.Errors](err); ok {
		for _, m := range mistakes {
			fmt.Println(m)
		}
	}
	// Output:
	// millrace.yaml:3:12: edge.timeout: "10" is not a duration: write a number and its unit, such as 300ms, 10s or 15m
	// millrace.yaml:6:5: unknown key "tagets" in upstreams.api: did you mean "targets"?
	// millrace.yaml:8:24: routes[0].to: upstream "apis" is not declared under upstreams (did you mean "api"?)
}

// Variables come from the environment. Marshal writes their values.
func ExampleMarshal() {
	env := func(name string) (string, bool) { return "http://10.0.0.7:3000", name == "API" }
	c, err := config.Parse("millrace.yaml", []byte(`
version: 1
edge: {listen: "127.0.0.1:8080", timeout: 90s}
upstreams: {api: {targets: ["${API}"]}}
routes: [{path: /api/*, to: "upstream:api"}]
`), env)
	if err != nil {
		fmt.Println(err)
		return
	}
	c.Routes[0].Methods = []node.Method{"GET"}
	out, err := config.Marshal(c)
	fmt.Printf("%s%v\n", out, err)
	// Output:
	// version: 1
	// edge:
	//   timeout: 1m30s
	// upstreams:
	//   api:
	//     targets:
	//       - http://10.0.0.7:3000
	// routes:
	//   - path: /api/*
	//     methods:
	//       - GET
	//     to: upstream:api
	// <nil>
}
