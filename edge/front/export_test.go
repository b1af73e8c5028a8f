package front

import (
	"log/slog"
	"net"
	"net/netip"

	"github.com/gofiber/fiber/v2"

	"millrace/edge/exchange"
	"millrace/edge/guard"
	"millrace/node"
)

// Keep serves l with Fiber and calls keep with the exchange of every request. keep may hold it after the handler
// returns.
func Keep(l net.Listener, keep func(*exchange.Exchange)) *fiber.App {
	app := fiber.New(fiber.Config{DisableStartupMessage: true, DisableHeaderNormalizing: true})
	app.Use(func(c *fiber.Ctx) error {
		x := &exchange.Exchange{}
		(&Front{}).clientOf(c.Context().Conn().(*guard.Conn)).read(x)
		x.Body, _ = x.Incoming.ReadBody(1 << 20)
		keep(x)
		return c.SendString(x.Target)
	})
	cfg := node.Default().Edge
	guarded := guard.New(l, guard.Config{
		Limits: Limits(cfg), Budget: guard.NewBudget(int64(cfg.MaxBuffered)),
		Exempt: func(netip.Addr) bool { return false }, Log: slog.New(slog.DiscardHandler),
	})
	go func() { _ = app.Listener(guarded) }()
	return app
}

// ReadAll reads requests with their bodies from a connection, until guard or Accept refuses one.
func ReadAll(inner net.Conn) []*exchange.Exchange {
	cfg := node.Default().Edge
	conn := guard.New(nil, guard.Config{Limits: Limits(cfg), Budget: guard.NewBudget(int64(cfg.MaxBuffered))}).Wrap(
		inner)
	var out []*exchange.Exchange
	for {
		for ended := false; !ended; {
			var p [128]byte
			n, err := conn.Read(p[:])
			if err != nil {
				return out
			}
			ended = string(p[max(n-4, 0):n]) == "\r\n\r\n"
		}
		x := &exchange.Exchange{}
		(&Front{}).clientOf(conn).read(x)
		if x.Accept(&exchange.Settings{Edge: cfg, Via: "millrace-test"}); x.Outcome.Refusal != nil {
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
