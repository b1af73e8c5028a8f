package embedded_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"

	"millrace/embedded"
	"millrace/mesh"
	"millrace/node"
)

// A Go program that is a whole node and serves /hello itself.
func Example() {
	ctx := context.Background()
	dir, _ := os.MkdirTemp("", "example-*")
	defer os.RemoveAll(dir)
	cfg := node.Default()
	cfg.Node.Data = dir
	cfg.Edge.Listen, cfg.Admin.Listen, cfg.Mesh.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	cfg.Edge.Expose = []string{"hello"}
	cfg.Edge.Linger = 0

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

	hello, _ := n.Mesh().NewService(mesh.ServiceConfig{
		Destination: n.Mesh().Service("hello"),
		Handler: mesh.HandlerFunc(func(_ context.Context, r *mesh.Request) (*mesh.Response, error) {
			return &mesh.Response{Status: 200, Body: []byte("hello from " + r.Target)}, nil
		}),
	})
	_ = hello.Open(ctx)
	defer func() { _ = hello.Shutdown(ctx) }()

	resp, err := http.Get(n.EdgeURL() + "/hello/world")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	fmt.Println(resp.StatusCode, string(body))
	// Output: 200 hello from /hello/world
}
