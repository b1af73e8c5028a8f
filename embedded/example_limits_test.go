package embedded_test

import (
	"context"
	"fmt"
	"os"

	"millrace/embedded"
	"millrace/node"
)

// A Go program takes permits of a configured limit: exact for all nodes together.
func ExampleNode_Limits() {
	ctx := context.Background()
	dir, _ := os.MkdirTemp("", "example-*")
	defer os.RemoveAll(dir)
	cfg := node.Default()
	cfg.Node.Data, cfg.Edge.Linger = dir, 0
	cfg.Edge.Listen, cfg.Admin.Listen, cfg.Mesh.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	var mails node.Limit
	_ = mails.UnmarshalText([]byte("2/day")) // limits: {mails: 2/day} in a file
	cfg.Limits = map[string]node.Limit{"mails": mails}
	n, err := embedded.New(embedded.Options{Config: cfg})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := n.Open(ctx); err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = n.Shutdown(ctx) }()

	rule := n.Limits().Rule("mails")
	for range 3 {
		d, err := rule.Take(ctx, rule.Key([]byte("ada@example.com")), 1)
		fmt.Println(d.Allowed, d.Remaining, err)
	}
	// Output:
	// true 1 <nil>
	// true 0 <nil>
	// false 0 <nil>
}
