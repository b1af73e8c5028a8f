package embedded_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"millrace/embedded"
	"millrace/node"
)

// A Go program stores values in its node's cache. If many ask for a missing value at the same time, on any nodes, one
// loads it.
func ExampleNode_Cache() {
	ctx := context.Background()
	dir, _ := os.MkdirTemp("", "example-*")
	defer os.RemoveAll(dir)
	cfg := node.Default()
	cfg.Node.Data, cfg.Edge.Linger = dir, 0
	cfg.Edge.Listen, cfg.Admin.Listen, cfg.Mesh.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
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

	values := n.Cache().Values()
	price := func(context.Context) ([]byte, error) { return []byte("9.90"), nil } // asks a slow database, say
	got, err := values.GetOrLoad(ctx, "price:7", time.Minute, price)
	fmt.Println(string(got), err)
	err = values.Set(ctx, "price:7", []byte("8.90"), time.Minute)
	again, _ := values.Get(ctx, "price:7")
	fmt.Println(string(again), err)
	err = values.Delete(ctx, "price:7")
	_, missing := values.Get(ctx, "price:7")
	fmt.Println(missing, err)
	// Output:
	// 9.90 <nil>
	// 8.90 <nil>
	// no value under this key <nil>
}
