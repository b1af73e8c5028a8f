package edgetest

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"millrace/mesh"
	"millrace/mesh/upstream"
	"millrace/node"
	"millrace/node/nodetest"
)

// startServices starts the mesh with its services echo and origin.
func (r *Rig) startServices(tb testing.TB) {
	tb.Helper()
	r.Conn, _ = connect(tb)
	r.Origin = &Origin{answers: map[string]Answer{}, counts: map[string]int{}, requests: map[string]*mesh.Request{}}
	r.start(tb, "echo", mesh.HandlerFunc(echo), false)
	origin := r.StartOrigin(tb)
	r.EndOrigin = func() { _ = origin.Close() }
}

// StartOrigin starts the service origin, which runs already unless EndOrigin has ended it.
func (r *Rig) StartOrigin(tb testing.TB) *mesh.Service {
	tb.Helper()
	return r.start(tb, "origin", r.Origin, false)
}

// Service starts a service of that name, which takes a thousand requests at once. It ends with the test.
func (r *Rig) Service(tb testing.TB, name string, h mesh.HandlerFunc) *mesh.Service {
	tb.Helper()
	return r.start(tb, name, h, false)
}

// StreamService is Service of one that takes streams.
func (r *Rig) StreamService(tb testing.TB, name string, h mesh.HandlerFunc) *mesh.Service {
	tb.Helper()
	return r.start(tb, name, h, true)
}

func (r *Rig) start(tb testing.TB, name string, h mesh.Handler, streams bool) *mesh.Service {
	tb.Helper()
	s, err := r.Conn.NewService(mesh.ServiceConfig{
		Destination: r.Conn.Service(name), Handler: h, Streams: streams, Limit: 1000,
	})
	if err == nil {
		err = s.Open(tb.Context())
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

// Upstream makes the upstream app, at that URL.
func (r *Rig) Upstream(tb testing.TB, url string) {
	tb.Helper()
	set, err := upstream.New(upstream.Config{Conn: r.Conn, Log: nodetest.Discard()})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = set.Close() })
	var u node.Upstream
	u.Defaults()
	u.Targets = []node.UpstreamTarget{{URL: node.BaseURL(url), Weight: 1}}
	if err := set.Apply(tb.Context(), map[string]node.Upstream{"app": u}); err != nil {
		tb.Fatal(err)
	}
}

// StartProxy starts a Rig whose every path leads to the upstream app, whose requests h answers.
func StartProxy(tb testing.TB, change func(*node.Edge), h http.HandlerFunc) *Rig {
	tb.Helper()
	server := httptest.NewServer(h)
	tb.Cleanup(server.Close)
	r := Start(tb, Config{Edge: change, Routes: []node.Route{ProxyRoute("/*")}})
	r.Upstream(tb, server.URL)
	return r
}

// WaitSettled waits until no request runs and no stream of any is left.
func (r *Rig) WaitSettled(tb testing.TB) {
	tb.Helper()
	nodetest.Eventually(tb, "no stream is left", func() bool { return r.Conn.Streams() == 0 })
	nodetest.Eventually(tb, "the client connections are gone or idle", func() bool { return r.InFlight() == 0 })
}

func echo(_ context.Context, r *mesh.Request) (*mesh.Response, error) {
	status := 200
	if v := r.Header.Get("X-Status"); v != "" {
		status, _ = strconv.Atoi(v)
	}
	resp := &mesh.Response{
		Status: status,
		Header: Fields("X-Method", r.Method, "X-Target", r.Target, "Content-Type", "text/plain"),
	}
	if status != 204 && status != 304 {
		resp.Body = r.Body
	}
	if v := r.Header.Get("X-Date"); v != "" {
		resp.Header.Add("Date", v)
	}
	return resp, nil
}
