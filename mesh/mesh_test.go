package mesh_test

import (
	"context"
	"testing"
	"time"

	"millrace/embedded/natsserver/natsservertest"
	"millrace/mesh"
)

func get(target string) *mesh.Request {
	return &mesh.Request{Method: "GET", Target: target, Host: "a.test", Deadline: time.Now().Add(5 * time.Second)}
}

// direct makes the services of serve run on the caller's goroutine where possible. Tests that change it don't run in
// parallel.
var direct = false

func serve(tb testing.TB, c *mesh.Conn, name string, limit int, h mesh.HandlerFunc) *mesh.Service {
	tb.Helper()
	s, err := c.NewService(mesh.ServiceConfig{Destination: c.Service(name), Handler: h, Limit: limit, Direct: direct})
	if err == nil {
		err = s.Open(tb.Context())
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

func hello(context.Context, *mesh.Request) (*mesh.Response, error) {
	return &mesh.Response{
		Status: 200, Header: mesh.Header{{Name: "Content-Type", Value: "text/plain"}},
		Body: []byte("hello"),
	}, nil
}

func BenchmarkRoundTrip(b *testing.B) {
	c := natsservertest.Connect(b, natsservertest.Start(b))
	serve(b, c, "hello", 0, hello)
	to := c.Service("hello")
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			resp, err := c.Do(context.Background(), to, get("/x"))
			if err != nil || string(resp.Body) != "hello" {
				b.Error(err)
				return
			}
		}
	})
}
