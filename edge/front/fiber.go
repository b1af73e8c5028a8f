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

// newApp configures Fiber and fasthttp. It changes every default that isn't safe. Parsing, buffers and read time-outs
// keep their defaults, because they never see a client's bytes: guard reads the connection, and fasthttp only reads the
// short heads that guard writes.
func (f *Front) newApp() *fiber.App {
	app := fiber.New(fiber.Config{
		DisableStartupMessage: true, DisableHeaderNormalizing: true, DisableDefaultContentType: true,
		DisablePreParseMultipartForm: true,
		DisableDefaultDate:           true, WriteTimeout: f.cfg.Edge.WriteTimeout.Std(), ReadBufferSize: maxGuardHead,
		BodyLimit: 1,
	})
	server := app.Server()
	server.SecureErrorLogMessage = true
	server.LazyRequestTime = true
	server.MaxIdleWorkerDuration = 2 * time.Second // so that a burst's stacks are freed soon after it
	server.ErrorHandler = f.protocolError
	server.CloseOnShutdown = true
	// This replaces Fiber's router, so that methods that Fiber doesn't know are served too.
	server.Handler = func(rc *fasthttp.RequestCtx) {
		c := app.AcquireCtx(rc)
		defer app.ReleaseCtx(c)
		f.handle(c)
	}
	return app
}

// penalty is how long the next request of a client that was refused for overload is delayed, if it comes at once. The
// refusal's Retry-After is longer: a second.
const penalty = 500 * time.Millisecond

// maxGuardHead is at least the size in bytes of the heads that guard writes for fasthttp.
const maxGuardHead = 128

// handle serves one request, with the exchange of the short way if there is one. Only this file uses Fiber's request
// and response.
func (f *Front) handle(c *fiber.Ctx) {
	defer f.recoverPanic(c)
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
	if x.Upgrade.Socket || x.Outcome.Last { // even if it was refused: the bytes that follow may not be a request
		conn.CloseAfter()
	}
	if resp.Stream != nil {
		f.stream(client, x, resp)
		client.framing = framing{} // an idle connection keeps no buffer
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

// recoverPanic answers a panic outside of the policies, which recover from their own.
func (f *Front) recoverPanic(c *fiber.Ctx) {
	if p := recover(); p != nil {
		f.logPanic(p, "")
		f.write(c, f.core.Refuse(node.Errorf(node.CodeInternal, nil, "the request failed inside the gateway")), true)
	}
}

// logPanic logs a panic. id is the request's, or empty if it has none yet.
func (f *Front) logPanic(p any, id string) {
	f.log.Error("request handler panicked", "request_id", id, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
}

// write passes the response to Fiber. The body isn't copied, because nothing else uses it.
func (f *Front) write(c *fiber.Ctx, resp *mesh.Response, closeAfter bool) {
	out := c.Response()
	out.SetStatusCode(resp.Status)
	if reason := reasonOf(resp); reason != fasthttp.StatusMessage(resp.Status) { // else fasthttp writes it
		out.Header.SetStatusMessage([]byte(cmp.Or(reason, noReason)))
	}
	f.writeHeader(&out.Header, resp.Header)
	if closeAfter {
		out.SetConnectionClose()
	}
	out.SetBodyRaw(resp.Body)
}

// writeHeader adds the fields, and Date if the origin sent none (RFC 9110 §6.6.1).
func (f *Front) writeHeader(out *fasthttp.ResponseHeader, h mesh.Header) {
	dated := false
	for _, f := range h {
		switch {
		case node.SameName(f.Name, "Date"):
			dated = true
			writeDate(out, f.Value)
		case node.SameName(f.Name, "Content-Encoding") && len(out.ContentEncoding()) > 0:
			// fasthttp keeps one line, so several become one list, which means the same
			out.SetContentEncoding(string(out.ContentEncoding()) + ", " + f.Value)
		default:
			out.Add(f.Name, f.Value)
		}
	}
	if !dated {
		writeDate(out, f.date.now())
	}
}

// writeDate adds a Date field. fasthttp's Add ignores Date, unless Date is announced as a trailer field at that moment.
// So it is announced, added, and the announcement is removed before anything is written.
func writeDate(out *fasthttp.ResponseHeader, date string) {
	if out.AddTrailer("Date") == nil {
		out.Add("Date", date)
	}
	_ = out.SetTrailer("") // an empty list is always allowed
}

// protocolError answers a request that fasthttp refuses to parse. That can't happen, because guard writes what fasthttp
// reads, so it is logged as an error.
func (f *Front) protocolError(ctx *fasthttp.RequestCtx, err error) {
	resp := f.core.Refuse(node.Errorf(node.CodeInternal, err, "the request failed inside the gateway"))
	f.log.Error("fasthttp refused a request that the guard let through", "cause", err)
	ctx.Response.Reset()
	ctx.SetStatusCode(resp.Status)
	f.writeHeader(&ctx.Response.Header, resp.Header)
	ctx.Response.SetBodyRaw(resp.Body)
	ctx.SetConnectionClose()
}
