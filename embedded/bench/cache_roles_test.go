package bench_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"

	"millrace/embedded"
	"millrace/node"
)

func init() {
	roles["cacheorigin"] = cacheOrigin
	roles["cachegateway"] = func(ctx context.Context, args []string) (string, error) {
		cache := new(node.Cache)
		cache.Defaults()
		return originGateway(ctx, args, cache)
	}
	roles["proxygateway"] = func(ctx context.Context, args []string) (string, error) {
		return originGateway(ctx, args, nil)
	}
}

// cachedBody is the body of the origin, always the same.
func cachedBody(size int) []byte {
	out := make([]byte, size)
	_, _ = io.ReadFull(noise(int64(size)), out)
	return out
}

// cacheOrigin answers GET /N and /N/... with N bytes that may be stored for an hour, and GET /count with the number of
// other requests so far.
func cacheOrigin(ctx context.Context, _ []string) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	var served atomic.Int64
	go func() {
		_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/count" {
				_, _ = io.WriteString(w, strconv.FormatInt(served.Load(), 10))
				return
			}
			served.Add(1)
			text, _, _ := strings.Cut(r.URL.Path[1:], "/")
			size, err := strconv.Atoi(text)
			if err != nil {
				http.NotFound(w, r)
				return
			}
			h := w.Header()
			h.Set("Content-Type", "text/plain")
			h.Set("Content-Length", text)
			h.Set("Cache-Control", "max-age=3600")
			h.Set("ETag", `"page-`+text+`"`)
			h.Set("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
			_, _ = w.Write(cachedBody(size))
		}))
	}()
	return "http://" + l.Addr().String(), nil
}

// measuredRoute is the only route of the measured gateway.
func measuredRoute(cache *node.Cache) node.Route {
	var r node.Route
	r.Defaults()
	r.Path = node.Pattern{Rest: true}
	r.To = node.Target{Kind: node.KindUpstream, Name: "api"}
	r.Cache = cache
	return r
}

// originGateway is a node with one route to the origin. args are its data directory and the origin.
func originGateway(ctx context.Context, args []string, cache *node.Cache) (string, error) {
	embedded.TuneGC() // as the millrace command does
	cfg := node.Default()
	cfg.Node.Data = args[0]
	cfg.Edge.Listen, cfg.Admin.Listen, cfg.Mesh.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	var up node.Upstream
	up.Defaults()
	up.Targets = []node.UpstreamTarget{{URL: node.BaseURL(args[1]), Weight: 1}}
	cfg.Upstreams = map[string]node.Upstream{"api": up}
	cfg.Routes = []node.Route{measuredRoute(cache)}
	n, err := embedded.New(embedded.Options{Config: cfg})
	if err != nil {
		return "", err
	}
	if err := n.Open(ctx); err != nil {
		return "", err
	}
	return n.EdgeURL(), nil
}
