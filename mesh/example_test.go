package mesh_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"millrace/embedded/natsserver"
	"millrace/mesh"
)

// A service and a request to it, over one connection.
func Example() {
	ctx := context.Background()
	log := slog.New(slog.DiscardHandler)
	dir, _ := os.MkdirTemp("", "example-*")
	defer os.RemoveAll(dir)
	server, err := natsserver.New(natsserver.Config{
		Name: "n1", Dir: dir, Listen: "127.0.0.1:0",
		MemberToken: "a-secret-of-members", Log: log,
	})
	if err != nil || server.Open(ctx) != nil {
		fmt.Println("no server:", err)
		return
	}
	defer server.Close()

	user, password := server.NodeCredential()
	conn, err := mesh.New(mesh.Config{Name: "n1", InProcess: server, User: user, Password: password, Log: log})
	if err != nil || conn.Open(ctx) != nil {
		fmt.Println("no connection:", err)
		return
	}
	defer conn.Close()

	hello, _ := conn.NewService(mesh.ServiceConfig{
		Destination: conn.Service("hello"),
		Handler: mesh.HandlerFunc(func(_ context.Context, r *mesh.Request) (*mesh.Response, error) {
			return &mesh.Response{Status: 200, Body: []byte("hello, " + r.Target)}, nil
		}),
	})
	if err := hello.Open(ctx); err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = hello.Shutdown(ctx) }()

	resp, err := conn.Do(ctx, conn.Service("hello"), &mesh.Request{
		Method: "GET", Target: "/world", Host: "example", Deadline: time.Now().Add(5 * time.Second),
	})
	fmt.Println(resp.Status, string(resp.Body), err)
	// Output: 200 hello, /world <nil>
}
