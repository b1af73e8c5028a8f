package edge

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/gofiber/fiber/v2"

	"millrace/edge/guard"
	"millrace/kvcache"
	"millrace/mesh"
	"millrace/node"
)

// The parsers and rules, for tests that look at them alone.
var (
	CanonicalPath      = node.CanonicalPath
	SplitTarget        = splitTarget
	RightmostUntrusted = rightmostUntrusted
	Traceparent        = traceparent
	CanonicalAuthority = canonicalAuthority
	ChunkKey           = chunkKey
	PlainCookie        = plainCookie
)

// Contain wraps a handler as the policy chain does.
func (s *Server) Contain(h Handler) Handler {
	contained := problems(s.contain(h))
	return func(ctx context.Context, x *Exchange) (*mesh.Response, error) {
		x.route = &route{}
		return contained(ctx, x)
	}
}

// Keep serves l with Fiber and hands every request's copy to keep, past its handler.
func Keep(l net.Listener, keep func(*Exchange)) *fiber.App {
	app := fiber.New(fiber.Config{DisableStartupMessage: true, DisableHeaderNormalizing: true})
	app.Use(func(c *fiber.Ctx) error {
		x := fromConn(c.Context().Conn().(*guard.Conn))
		x.Body, _ = x.Incoming.ReadBody(1 << 20)
		keep(x)
		return c.SendString(x.Target)
	})
	cfg := node.Default().Edge
	guarded := guard.New(l, guard.Config{
		Limits: limits(cfg), Budget: guard.NewBudget(int64(cfg.MaxBuffered)),
		Log: slog.New(slog.DiscardHandler),
	})
	go func() { _ = app.Listener(guarded) }()
	return app
}

// Match finds the route of a request among routes, by name; "" if none.
func Match(routes []node.Route, method, host, path string, header mesh.Header) string {
	return Matcher(routes)(method, host, path, header)
}

// Matcher is Match for many requests.
func Matcher(routes []node.Route) func(method, host, path string, header mesh.Header) string {
	var list []*route
	for _, r := range routes {
		list = append(list, &route{Route: r, id: r.ID(), paramNames: r.Path.Params()})
	}
	t := newTable(list)
	return func(method, host, path string, header mesh.Header) string {
		x := &Exchange{Method: method, Host: host, Path: path, Header: header}
		if found, _ := t.find(x); !found {
			return ""
		}
		return x.route.id
	}
}

// Prepared is what the member gets for an exchange that came from peer, with these trusted proxies.
func Prepared(x *Exchange, peer string, trusted ...node.Prefix) (*mesh.Request, netip.Addr) {
	x.Peer, x.route = netip.MustParseAddr(peer), &route{id: "r"}
	if x.enter(&settings{Edge: node.Edge{TrustedProxies: trusted}}, "millrace-test"); x.refusal != nil {
		return nil, netip.Addr{}
	}
	var out *mesh.Request
	h := identify(clientAddr(func(context.Context, *Exchange) (*mesh.Response, error) {
		out = x.prepare()
		return &mesh.Response{Status: 200}, nil
	}))
	_, _ = h(context.Background(), x)
	return out, x.Client
}

// ReadAll reads every request that comes on a connection and passes guard and form, with its body.
func ReadAll(inner net.Conn) []*Exchange {
	cfg := node.Default().Edge
	conn := guard.New(nil, guard.Config{Limits: limits(cfg), Budget: guard.NewBudget(int64(cfg.MaxBuffered))}).Wrap(
		inner)
	var out []*Exchange
	for {
		for ended := false; !ended; {
			var p [128]byte
			n, err := conn.Read(p[:])
			if err != nil {
				return out
			}
			ended = string(p[max(n-4, 0):n]) == "\r\n\r\n"
		}
		x := fromConn(conn)
		if x.enter(&settings{Edge: cfg}, "millrace-test"); x.refusal != nil {
			return out
		}
		var err error
		if x.Body, err = x.Incoming.ReadBody(1 << 20); err != nil {
			return out
		}
		out = append(out, x)
		if !conn.Keepable() {
			return out
		}
	}
}

// URLPurges gives the purges of a URL whatever its route is.
func URLPurges(url string, soft bool) []kvcache.Purge { return urlPurges(url, soft) }

// CacheFetches is the number of fetches of the cache that run.
func (s *Server) CacheFetches() int { return s.flights.Len() }

// SetEndsWithin changes how soon a body of unknown length must end. Call it before the requests that it concerns.
func (s *Server) SetEndsWithin(d time.Duration) { s.filling.endsWithin = d }

// TakeRoom takes all room in which responses are brought together, until free.
func (s *Server) TakeRoom() (free func()) {
	s.filling.mu.Lock()
	n := s.filling.max - s.filling.used
	s.filling.mu.Unlock()
	s.filling.take(n)
	return func() { s.filling.give(n) }
}
