package edge

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"millrace/edge/guard"
	"millrace/mesh"
	"millrace/node"
)

// newApp sets every default of Fiber and fasthttp that isn't safe. What is read off a connection is the guard's
// business: the server behind it sees heads that the guard wrote, so its own parser, buffers and read time-outs stay
// out of use.
func (s *Server) newApp() *fiber.App {
	app := fiber.New(fiber.Config{
		DisableStartupMessage: true, DisableHeaderNormalizing: true, DisableDefaultContentType: true,
		DisablePreParseMultipartForm: true,
		DisableDefaultDate:           true, WriteTimeout: s.cfg.Edge.WriteTimeout.Std(), ReadBufferSize: announcement,
		BodyLimit: 1,
	})
	server := app.Server()
	server.SecureErrorLogMessage = true
	server.LazyRequestTime = true
	server.MaxIdleWorkerDuration = 2 * time.Second // the stacks of a burst aren't kept
	server.ErrorHandler = s.protocolError
	server.CloseOnShutdown = true
	// our router stands in place of Fiber's, so methods that Fiber doesn't know are served too
	server.Handler = func(rc *fasthttp.RequestCtx) {
		c := app.AcquireCtx(rc)
		defer app.ReleaseCtx(c)
		s.handle(c)
	}
	return app
}

// hastyPause is how long a client that was refused for overload waits until its next request is read. It is told to
// come back after a second.
const hastyPause = 500 * time.Millisecond

// announcement is more than the guard's heads need in bytes.
const announcement = 128

// handle is the only code that touches Fiber's request and response.
func (s *Server) handle(c *fiber.Ctx) {
	defer s.recoverFront(c)
	conn, ok := c.Context().Conn().(*guard.Conn)
	if !ok {
		panic("the connection isn't guarded")
	}
	x, ok := conn.Pending.(*Exchange)
	if conn.Pending = nil; !ok {
		x = fromConn(conn)
	}
	if !x.HTTP10 {
		x.Interim = func(status int, h mesh.Header) { sendInterim(conn, status, h) }
	}
	resp := s.Serve(conn.Context(), x)
	if x.Socket || x.last { // whatever came of it, what the client sends behind its request isn't another one
		conn.End()
	}
	if resp.Stream != nil {
		s.stream(conn, x, resp)
		if !conn.Keepable() {
			c.Response().SetConnectionClose()
		}
		return
	}
	conn.Unwatch()
	if x.kept != nil {
		if s.draining.Load() {
			conn.End()
		}
		if !conn.Keepable() {
			c.Response().SetConnectionClose()
		}
		s.sendKept(conn, x, resp)
		return
	}
	if !conn.Hold(len(resp.Body)) {
		resp = s.refusal(node.Errorf(node.CodeBusy, nil, "the node holds as many bytes as it may"))
		x.editOwn(&resp.Header)
	}
	if x.pause {
		conn.Pause(hastyPause)
	}
	if s.draining.Load() {
		conn.End()
	}
	c.Response().SkipBody = x.Method == fasthttp.MethodHead
	s.write(c, resp, !conn.Keepable())
}

// refusal is the response to what the policies can't answer; it is counted, and carries an id, as they would have it.
func (s *Server) refusal(err error) *mesh.Response {
	id := newID()
	resp := problemResponse(err, id)
	resp.Header.Add("X-Request-Id", id)
	s.settings.Load().unmatched.stats.record(resp.Status, 0)
	return resp
}

// recoverFront is the last net: what the policies recover from never reaches it.
func (s *Server) recoverFront(c *fiber.Ctx) {
	if p := recover(); p != nil {
		s.log.Error("edge panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		s.write(c, s.refusal(node.Errorf(node.CodeInternal, nil, "the request failed inside the gateway")), true)
	}
}

// fromConn makes the exchange of the request that the connection announced last. Its strings are the request's own and
// outlive the connection. What the guard refused becomes the exchange's refusal.
func fromConn(conn *guard.Conn) *Exchange {
	x := &Exchange{}
	x.read(conn)
	return x
}

// read fills an empty exchange, field by field: it is large.
func (x *Exchange) read(conn *guard.Conn) {
	r := conn.Request()
	x.Method, x.Target, x.Scheme, x.Header, x.HTTP10, x.Started = r.Method, r.Target, "http", r.Header, r.HTTP10,
		r.Arrived
	x.Peer, x.Incoming, x.Length, x.Socket, x.Hasty = peer(conn.RemoteAddr()), conn, r.Length, socketAsked(r), r.Hasty
	if r.Upgrade {
		x.Upgrade = offered(r)
	}
	if r.Refusal != nil {
		x.refusal = r.Refusal
	}
}

func peer(addr net.Addr) netip.Addr {
	if tcp, ok := addr.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

// write gives the response to Fiber. Its body isn't copied: it belongs to the response alone.
func (s *Server) write(c *fiber.Ctx, resp *mesh.Response, closeAfter bool) {
	out := c.Response()
	out.SetStatusCode(resp.Status)
	if reason := reasonOf(resp); reason != fasthttp.StatusMessage(resp.Status) { // else it writes that
		out.Header.SetStatusMessage([]byte(cmp.Or(reason, noReason)))
	}
	s.writeHeader(&out.Header, resp.Header)
	if closeAfter {
		out.SetConnectionClose()
	}
	out.SetBodyRaw(resp.Body)
}

// writeHeader adds the fields, and the Date of this moment if the origin gave none (RFC 9110 §6.6.1).
func (s *Server) writeHeader(out *fasthttp.ResponseHeader, h mesh.Header) {
	dated := false
	for _, f := range h {
		switch {
		case equalFold(f.Name, "Date"):
			dated = true
			writeDate(out, f.Value)
		case equalFold(f.Name, "Content-Encoding") && len(out.ContentEncoding()) > 0:
			// fasthttp keeps one: a list says the same
			out.SetContentEncoding(string(out.ContentEncoding()) + ", " + f.Value)
		default:
			out.Add(f.Name, f.Value)
		}
	}
	if !dated {
		writeDate(out, s.date.now())
	}
}

// writeDate adds a Date field. fasthttp drops one that is added as others are, unless Date is announced as a trailer at
// that moment; the announcement is taken back before anything is written.
func writeDate(out *fasthttp.ResponseHeader, date string) {
	if out.AddTrailer("Date") == nil {
		out.Add("Date", date)
	}
	_ = out.SetTrailer("") // an empty list is always allowed
}

// protocolError answers what fasthttp itself refuses: nothing, as long as the guard announces what it can read.
func (s *Server) protocolError(ctx *fasthttp.RequestCtx, err error) {
	resp := s.refusal(node.Errorf(node.CodeInternal, err, "the request failed inside the gateway"))
	s.log.Error("fasthttp refused a request that the guard let through", "cause", err)
	ctx.Response.Reset()
	ctx.SetStatusCode(resp.Status)
	s.writeHeader(&ctx.Response.Header, resp.Header)
	ctx.Response.SetBodyRaw(resp.Body)
	ctx.SetConnectionClose()
}
