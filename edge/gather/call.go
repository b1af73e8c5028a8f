package gather

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tidwall/gjson"

	"millrace/edge/exchange"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/http1"
)

// maxPart bounds the body of one part. maxWhole bounds the bodies of all parts and the answer made of them together. A
// gather holds them in memory.
const (
	maxPart  = 8 << 20
	maxWhole = 64 << 20
)

// Budget bounds bytes that are held in memory. Its methods are called from many goroutines.
type Budget interface {
	// Take counts n bytes, or returns false if there would be too many.
	Take(n int) bool
	// Give gives n bytes back.
	Give(n int)
}

// heldBytes counts the bytes that one gather holds in memory, which count against edge.max_buffered. It is safe for
// concurrent use.
type heldBytes struct {
	budget Budget
	bytes  atomic.Int64
}

var errBudget = node.Errorf(node.CodeBusy, nil, "the node holds as many bytes of requests and responses as it may")

// take counts n more bytes, or returns an error if there would be too many.
func (h *heldBytes) take(n int) error {
	if h.bytes.Load()+int64(n) > maxWhole {
		return node.Errorf(node.CodeBadReply, nil,
			"the responses of the calls, and the answer made of them, are longer than %s together", node.Size(maxWhole))
	}
	if !h.budget.Take(n) {
		return errBudget
	}
	h.bytes.Add(int64(n))
	return nil
}

func (h *heldBytes) give(n int) {
	h.bytes.Add(-int64(n))
	h.budget.Give(n)
}

func (h *heldBytes) release() { h.give(int(h.bytes.Load())) }

// partOutcome is what a part records beside its result. It may be read only when the part has ended.
type partOutcome struct{ fellBack bool } // the result is the call's fallback

// part is one call of one request.
type part struct {
	call     *node.Call
	to       *Part
	x        *exchange.Exchange // the client's
	header   mesh.Header
	log      *slog.Logger
	held     *heldBytes
	heldHere int // bytes of held that are this part's
	outcome  *partOutcome
}

// do makes the call and returns its result, or its fallback if the call failed. earlier returns the result of a call
// that this one comes after, or nil.
func (p *part) do(ctx context.Context, earlier func(string) *mesh.Response) (*mesh.Response, error) {
	resp, err := p.result(ctx, earlier)
	if (err != nil || resp.Status >= 400) && p.call.Fallback != "" && ctx.Err() == nil {
		p.outcome.fellBack = true
		resp, err = jsonResponse([]byte(p.call.Fallback)), nil
	}
	if err != nil || p.outcome.fellBack {
		p.held.give(p.heldHere)
		p.heldHere = 0
	}
	return resp, err
}

func (p *part) take(n int) error {
	err := p.held.take(n)
	if err == nil {
		p.heldHere += n
	}
	return err
}

// result makes the call, waits for the whole body within the call's time, and extracts what the configuration asks for.
func (p *part) result(ctx context.Context, earlier func(string) *mesh.Response) (resp *mesh.Response, err error) {
	defer func() {
		if v := recover(); v != nil {
			p.log.ErrorContext(ctx, "call of a gather panicked", "request_id", p.x.ID, "call", p.to.Route.ID,
				"panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			resp, err = nil, node.Errorf(node.CodeInternal, nil, "the call failed inside the gateway")
		}
	}()
	target, body, err := p.expand(earlier)
	if err != nil {
		return nil, err
	}
	own := p.exchange(target, body)
	ctx, cancel := context.WithDeadline(ctx, own.Forward.Deadline)
	defer cancel()
	resp, err = p.exchangeCall(ctx, own)
	status := exchange.StatusOf(node.CodeOf(err))
	if err == nil {
		status = resp.Status
	}
	p.to.Record(status, time.Since(own.Started))
	if err == nil && resp.Status < 400 && p.call.Extract != "" {
		err = p.extract(resp)
	}
	return resp, err
}

func (p *part) exchangeCall(ctx context.Context, own *exchange.Exchange) (*mesh.Response, error) {
	resp, err := p.to.Route.Handler(ctx, own)
	if err != nil {
		return nil, err
	}
	defer own.CopyStored(resp)
	if err := p.collect(ctx, resp); err != nil {
		return nil, err
	}
	own.CopyStored(resp) // decode needs its fields
	return resp, p.decode(resp)
}

// collect reads the whole body if it is a stream, and counts its bytes.
func (p *part) collect(ctx context.Context, resp *mesh.Response) error {
	stream := resp.Stream
	if stream == nil {
		return p.take(len(resp.Body))
	}
	end := func() { _ = stream.Close() } // all was read, or the call is canceled
	defer end()
	if http1.MediaType(resp.Header.Get("Content-Type")) == "text/event-stream" {
		return node.Errorf(node.CodeBadReply, nil,
			"the call answers with an event stream, which never ends: make it a route of its own")
	}
	stop := context.AfterFunc(ctx, end)
	defer stop()
	from := &meteredReader{Reader: io.LimitReader(mesh.NewReader(stream), maxPart+1), take: p.take}
	body, err := io.ReadAll(from)
	switch {
	case from.refused != nil:
		return from.refused
	case ctx.Err() != nil:
		return exchange.Ended(ctx)
	case err != nil:
		return node.Errorf(node.CodeUpstream, err, "the response of the call broke off")
	case len(body) > maxPart:
		return errLongPart
	}
	resp.Body, resp.Stream = body, nil
	return nil
}

var errLongPart = node.Errorf(node.CodeBadReply, nil, "the response of the call is longer than %s", node.Size(maxPart))

// meteredReader counts the bytes that are read. Read fails if there would be too many; refused is why.
type meteredReader struct {
	io.Reader

	take    func(n int) error
	refused error
}

func (c *meteredReader) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	if c.refused = c.take(n); c.refused != nil {
		return 0, c.refused
	}
	return n, err
}

// decode removes the content coding gzip, which some origins use though the call asks for none.
func (p *part) decode(resp *mesh.Response) error {
	coding := strings.ToLower(resp.Header.Get("Content-Encoding"))
	if coding == "" || coding == "identity" || len(resp.Body) == 0 {
		return nil
	}
	if coding != "gzip" && coding != "x-gzip" {
		return node.Errorf(node.CodeBadReply, nil,
			"the call answers in the content coding %.40q, for which it wasn't asked", coding)
	}
	from := &meteredReader{take: p.take}
	plain, err := gzip.NewReader(bytes.NewReader(resp.Body))
	if err == nil {
		from.Reader = io.LimitReader(plain, maxPart+1)
		resp.Body, err = io.ReadAll(from)
	}
	switch {
	case from.refused != nil:
		return from.refused
	case err != nil:
		return node.Errorf(node.CodeBadReply, err, "the call answers with gzip that can't be read")
	case len(resp.Body) > maxPart:
		return errLongPart
	}
	resp.Header.Delete(exchange.OfContent)
	return nil
}

// extract replaces the body by the JSON value at the call's extract path, or null.
func (p *part) extract(resp *mesh.Response) error {
	if !json.Valid(resp.Body) {
		return node.Errorf(node.CodeBadReply, nil, "the response of the call isn't JSON, so nothing can be extracted")
	}
	found := gjson.GetBytes(resp.Body, p.call.Extract)
	if resp.Body = []byte("null"); found.Exists() {
		resp.Body = []byte(found.Raw)
	}
	resp.Header.Delete(exchange.OfContent)
	resp.Header.Set("Content-Type", "application/json")
	return nil
}

// expand puts values into the templates of the call's target and body. The target of a plain NATS call is its subject,
// as a path.
func (p *part) expand(earlier func(string) *mesh.Response) (target string, body []byte, err error) {
	if p.call.To.Kind == node.KindNATS {
		subject, err := p.call.To.Subject.Expand(p.x.Param)
		if err != nil {
			return "", nil, node.Errorf(node.CodeInvalid, err, "a value can't be put into the call's subject")
		}
		target = "/" + subject
	} else if target, err = p.call.Path.Expand(func(ref node.Ref) (string, error) {
		return p.text(ref, earlier)
	}); err != nil {
		return "", nil, valueError(err, "path")
	}
	if body, err = p.call.Body.Expand(func(ref node.Ref) (node.JSON, error) {
		return p.json(ref, earlier)
	}); err != nil {
		return "", nil, valueError(err, "body")
	}
	return target, body, nil
}

// valueError says where a value can't be put. It returns other errors as they are.
func valueError(err error, where string) error {
	if errors.Is(err, node.ErrTemplateValue) || errors.Is(err, node.ErrBodyValue) {
		return node.Errorf(node.CodeInvalid, err, "a value can't be put into the call's %s", where)
	}
	return err
}

// text returns the text for a reference: a part of the path, or a value in the result of an earlier call.
func (p *part) text(ref node.Ref, earlier func(string) *mesh.Response) (string, error) {
	if ref.Call == "" {
		return p.x.PathValue(ref)
	}
	if resp := earlier(ref.Call); resp != nil {
		if text, ok := ref.TextIn(resp.Body); ok {
			return text, nil
		}
	}
	return "", node.Errorf(node.CodeUpstream, nil, "the result has no text or number %s", ref)
}

// json returns the JSON for a reference. A part of the path is unescaped first.
func (p *part) json(ref node.Ref, earlier func(string) *mesh.Response) (node.JSON, error) {
	if ref.Call == "" {
		text, err := p.x.PathValue(ref)
		if err == nil {
			if text, err = url.PathUnescape(text); err != nil {
				return "", node.ErrBodyValue
			}
		}
		return node.JSON(quoteJSON(text)), err
	}
	if resp := earlier(ref.Call); resp != nil {
		if value, ok := ref.JSONIn(resp.Body); ok {
			return value, nil
		}
	}
	return "", node.Errorf(node.CodeUpstream, nil, "the result has no %s", ref)
}

// exchange returns the exchange of the call.
func (p *part) exchange(target string, body []byte) *exchange.Exchange {
	own := p.x.Sub()
	own.Method, own.Target, own.Header, own.Route = string(p.call.Method), target, slices.Clone(p.header), p.to.Route
	if len(body) > 0 {
		own.Body = body
		own.Header.Set("Content-Type", "application/json")
	}
	own.Path, own.Query = http1.CutQuery(target)
	own.Forward.Deadline = p.x.Forward.Deadline
	if at := own.Started.Add(p.call.Timeout.Std()); p.call.Timeout > 0 && at.Before(own.Forward.Deadline) {
		own.Forward.Deadline = at
	}
	return own
}
