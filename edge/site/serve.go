package site

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"millrace/edge/exchange"
	"millrace/kvcache/httpcache"
	"millrace/mesh"
)

// serve answers with the file that is found, or with the part of it that is asked for. path is the path in the site.
// The conditions are checked in the order of RFC 9110 §13.2.2. There is no Last-Modified, so those of time don't count.
func (p *Policy) serve(ctx context.Context, x *exchange.Exchange, f *found, path string) (*mesh.Response, error) {
	want := httpcache.AcceptedCodings(x.Header)
	if f.Status != http.StatusOK {
		c := want.Best(codingsOf(f.File))
		return p.servePage(ctx, x, f, c)
	}
	h := p.headOf(f, path, &want)
	validator := mesh.Header{{Name: "ETag", Value: h.etag}}
	if httpcache.MatchFails(x.Header, h.etag) {
		return p.refuse(x, f, http.StatusPreconditionFailed, mesh.Header{}), nil
	}
	now := time.Now()
	if httpcache.NotModified(&httpcache.Request{Method: x.Method, Header: x.Header}, f.Status, validator, now) {
		return p.answer(x, h.unchanged, &mesh.Response{Status: http.StatusNotModified}), nil
	}
	resp := &mesh.Response{Status: http.StatusOK, Length: h.size}
	if ranges := x.Header.Values("Range"); len(ranges) == 1 && x.Method == http.MethodGet &&
		httpcache.RangeApplies(x.Header, validator, now) {
		switch spans, use := httpcache.ParseRange(ranges[0], h.size); {
		case use == httpcache.RangeBad:
			unsatisfied := mesh.Header{{Name: "Content-Range", Value: httpcache.UnsatisfiedRange(h.size)}}
			return p.refuse(x, f, http.StatusRequestedRangeNotSatisfiable, unsatisfied), nil
		case use == httpcache.RangeSome && len(spans) == 1:
			return p.serveSpan(ctx, x, h, spans[0])
		case use == httpcache.RangeSome:
			return p.serveSpans(ctx, x, h, spans)
		}
	}
	if err := setBody(ctx, x, h.file, h.size, httpcache.Span{First: 0, Last: h.size - 1}, resp); err != nil {
		return nil, err
	}
	return p.answer(x, h.lines, resp), nil
}

// answer completes a response whose fields are lines.
func (*Policy) answer(x *exchange.Exchange, lines []byte, resp *mesh.Response) *mesh.Response {
	x.Outcome.Stored, x.Outcome.Cache = &stored{lines: lines}, status
	return resp
}

// servePage answers with a file that says that nothing is there: it is neither kept nor asked for in parts.
func (p *Policy) servePage(
	ctx context.Context, x *exchange.Exchange, f *found, c httpcache.Coding,
) (*mesh.Response, error) {
	b, _ := blobOf(f.File, c)
	resp := &mesh.Response{Status: f.Status, Length: b.Size}
	whole := httpcache.Span{First: 0, Last: b.Size - 1}
	if err := setBody(ctx, x, p.room.sites.File(b), b.Size, whole, resp); err != nil {
		return nil, err
	}
	return p.answer(x, httpcache.AppendHead(nil, p.fields(f, nil, c, f.Status)), resp), nil
}

// refuse answers that a condition isn't met or that a range isn't there.
func (p *Policy) refuse(x *exchange.Exchange, f *found, code int, h mesh.Header) *mesh.Response {
	h.Add("Cache-Control", "no-store")
	h.Add(sniffField, "nosniff")
	h.Add(deployField, deployID(f.deploy.ID))
	h.Add("Cache-Status", string(status.Append(nil)))
	if p.preview != "" {
		markPreview(&h)
	}
	if w := p.route.Rewrite; w != nil {
		exchange.Edit(&h, &w.Response)
	}
	return p.answer(x, httpcache.AppendHead(nil, h), &mesh.Response{Status: code})
}

// serveSpan answers with one part of the file.
func (p *Policy) serveSpan(
	ctx context.Context,
	x *exchange.Exchange,
	h *head,
	s httpcache.Span,
) (*mesh.Response, error) {
	resp := &mesh.Response{Status: http.StatusPartialContent, Length: s.Len()}
	if err := setBody(ctx, x, h.file, h.size, s, resp); err != nil {
		return nil, err
	}
	resp.Header = mesh.Header{{Name: "Content-Range", Value: httpcache.ContentRange(s, h.size)}}
	return p.answer(x, h.lines, resp), nil
}

// serveSpans answers with several parts of the file (RFC 9110 §14.6).
func (p *Policy) serveSpans(
	ctx context.Context, x *exchange.Exchange, h *head, spans []httpcache.Span,
) (*mesh.Response, error) {
	fields := (&stored{lines: h.lines}).Header()
	frame := httpcache.NewMultipart(spans, h.size, fields.Get("Content-Type"),
		x.ID+h.etag+strconv.FormatInt(x.Started.UnixNano(), 16))
	fields.Set("Content-Type", frame.ContentType)
	resp := &mesh.Response{Status: http.StatusPartialContent, Length: frame.Length}
	body := &exchange.Sections{}
	for i, s := range spans {
		var part mesh.Response
		if err := setBody(ctx, x, h.file, h.size, s, &part); err != nil {
			_ = body.Close() // what was added isn't needed
			return nil, err
		}
		body.Add([]byte(frame.Heads[i]), nil)
		body.Add(part.Body, part.Stream)
	}
	body.Add([]byte(frame.Close), nil)
	resp.Stream = body
	return p.answer(x, httpcache.AppendHead(nil, fields), resp), nil
}
