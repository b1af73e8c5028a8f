package front

import (
	"cmp"
	"fmt"
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
func (f *Front) newApp() *fiber.App {
	app := fiber.New(fiber.Config{
		DisableStartupMessage: true, DisableHeaderNormalizing: true, DisableDefaultContentType: true,
		DisablePreParseMultipartForm: true,
		DisableDefaultDate:           true, WriteTimeout: f.cfg.Edge.WriteTimeout.Std(), ReadBufferSize: announcement,
		BodyLimit: 1,
	})
	server := app.Server()
	server.SecureErrorLogMessage = true
	server.LazyRequestTime = true
	server.MaxIdleWorkerDuration = 2 * time.Second // the stacks of a burst aren't kept
	server.ErrorHandler = f.protocolError
	server.CloseOnShutdown = true
	// our router stands in place of Fiber's, so methods that Fiber doesn't know are served too
	server.Handler = func(rc *fasthttp.RequestCtx) {
		c := app.AcquireCtx(rc)
		defer app.ReleaseCtx(c)
		f.handle(c)
	}
	return app
}

// penalty is how long a client that was refused for overload waits until its next request is read. It is told to
// come back after a second.
const penalty = 500 * time.Millisecond

// announcement is more than the guard's heads need in bytes.
const announcement = 128

// handle is the only code that touches Fiber's request and response.
func (f *Front) handle(c *fiber.Ctx) {
	defer f.recoverFront(c)
	conn, ok := c.Context().Conn().(*guard.Conn)
	if !ok {
		panic("the connection isn't guarded")
	}
	client := f.clientOf(conn)
	x := client.pending
	if client.pending = nil; x == nil {
		x = f.core.New()
		client.read(x)
	}
	if !x.HTTP10 {
		x.Interim = client.interim
	}
	resp := f.core.Serve(conn.Context(), x)
	if x.Upgrade.Socket ||
		x.Outcome.Last { // whatever came of it, what the client sends behind its request isn't another one
		conn.CloseAfter()
	}
	if resp.Stream != nil {
		f.stream(client, x, resp)
		client.framing = framing{} // its memory isn't kept with the connection
		if !conn.Keepable() {
			c.Response().SetConnectionClose()
		}
		return
	}
	conn.Unwatch()
	if x.Outcome.Stored != nil {
		if f.draining.Load() {
			conn.CloseAfter()
		}
		if !conn.Keepable() {
			c.Response().SetConnectionClose()
		}
		f.writeStored(conn, x, resp)
		return
	}
	if !conn.Hold(len(resp.Body)) {
		resp = f.core.Refuse(node.Errorf(node.CodeBusy, nil, "the node holds as many bytes as it may"))
		x.EditOwn(&resp.Header)
	}
	if x.Outcome.Penalize {
		conn.Penalize(penalty)
	}
	if f.draining.Load() {
		conn.CloseAfter()
	}
	c.Response().SkipBody = x.Method == fasthttp.MethodHead
	f.write(c, resp, !conn.Keepable())
}

// recoverFront is the last net: what the policies recover from never reaches it.
func (f *Front) recoverFront(c *fiber.Ctx) {
	if p := recover(); p != nil {
		f.logPanic(p, "")
		f.write(c, f.core.Refuse(node.Errorf(node.CodeInternal, nil, "the request failed inside the gateway")), true)
	}
}

// logPanic logs a panic of the request with that id, which may be empty.
func (f *Front) logPanic(p any, id string) {
	f.log.Error("request handler panicked", "request_id", id, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
}

// write gives the response to Fiber. Its body isn't copied: it belongs to the response alone.
func (f *Front) write(c *fiber.Ctx, resp *mesh.Response, closeAfter bool) {
	out := c.Response()
	out.SetStatusCode(resp.Status)
	if reason := reasonOf(resp); reason != fasthttp.StatusMessage(resp.Status) { // else it writes that
		out.Header.SetStatusMessage([]byte(cmp.Or(reason, noReason)))
	}
	f.writeHeader(&out.Header, resp.Header)
	if closeAfter {
		out.SetConnectionClose()
	}
	out.SetBodyRaw(resp.Body)
}

// writeHeader adds the fields, and the Date of this moment if the origin gave none (RFC 9110 §6.6.1).
func (f *Front) writeHeader(out *fasthttp.ResponseHeader, h mesh.Header) {
	dated := false
	for _, f := range h {
		switch {
		case node.SameName(f.Name, "Date"):
			dated = true
			writeDate(out, f.Value)
		case node.SameName(f.Name, "Content-Encoding") && len(out.ContentEncoding()) > 0:
			// fasthttp keeps one: a list says the same
			out.SetContentEncoding(string(out.ContentEncoding()) + ", " + f.Value)
		default:
			out.Add(f.Name, f.Value)
		}
	}
	if !dated {
		writeDate(out, f.date.now())
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
func (f *Front) protocolError(ctx *fasthttp.RequestCtx, err error) {
	resp := f.core.Refuse(node.Errorf(node.CodeInternal, err, "the request failed inside the gateway"))
	f.log.Error("fasthttp refused a request that the guard let through", "cause", err)
	ctx.Response.Reset()
	ctx.SetStatusCode(resp.Status)
	f.writeHeader(&ctx.Response.Header, resp.Header)
	ctx.Response.SetBodyRaw(resp.Body)
	ctx.SetConnectionClose()
}
