package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"millrace/edge/exchange"
	"millrace/kvcache/httpcache"
	"millrace/mesh"
)

var (
	errChanged = errors.New("the origin has another representation than the one of which a part has left the store")
	errNoRange = errors.New("the origin doesn't give what has left the store")
)

// fetchRange asks the origin for a span of a stored representation. The body yields exactly the span, or fails.
// fetchRange fails with errChanged if the origin now has another representation, and with errNoRange if it doesn't send
// the span.
func (c *target) fetchRange(
	ctx context.Context, x *exchange.Exchange, stored mesh.Header, length int64, s httpcache.Span,
) (mesh.Body, error) {
	if otherRange(x) { // what is stored for such a request can't be asked for in bytes
		return nil, errNoRange
	}
	d := detach(x)
	c.normalise(d)
	httpcache.Unconditional(&d.Header)
	d.Header.Set("Range", s.Ask(length))
	d.Header.Set("If-Range", httpcache.RangeCondition(stored, time.Now()))
	c.stats.fetches.Add(1)
	resp, err := c.next(ctx, d)
	if err != nil {
		return nil, err
	}
	if !resp.Header.Has("Date") {
		resp.Header.Add("Date", httpcache.FormatDate(time.Now()))
	}
	same := httpcache.SameRepresentation(stored, resp.Header, time.Now())
	got, total, ok := httpcache.ParseContentRange(resp.Header.Get("Content-Range"))
	switch {
	case resp.Status == http.StatusPartialContent && same && ok && got == s && total == length:
		return newSpanBody(resp, 0, s.Len()), nil
	case resp.Status == http.StatusOK && same: // it doesn't support ranges
		return newSpanBody(resp, s.First, s.Len()), nil
	}
	exchange.CloseBody(resp)
	switch resp.Status {
	case http.StatusOK, http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable:
		return nil, errChanged
	}
	return nil, fmt.Errorf("%w: status %d", errNoRange, resp.Status)
}

// newSpanBody returns a span of a response's body: skip bytes are left out, left bytes follow.
func newSpanBody(resp *mesh.Response, skip, left int64) mesh.Body {
	if resp.Stream == nil {
		resp.Stream = mesh.NewBody(bytes.NewReader(resp.Body))
	}
	return &spanBody{Body: resp.Stream, skip: skip, left: left}
}

// spanBody is a span of a body. It fails if the body ends before the span does.
type spanBody struct {
	mesh.Body

	skip, left int64
}

// Next returns the next piece of the span.
func (p *spanBody) Next() (mesh.Piece, error) {
	for {
		if p.left == 0 {
			return mesh.Piece{}, io.EOF
		}
		piece, err := p.Body.Next()
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return mesh.Piece{}, err
		}
		n := min(p.skip, int64(len(piece.Data)))
		p.skip -= n
		if piece.Data = piece.Data[n:]; len(piece.Data) == 0 {
			continue
		}
		piece.Data = piece.Data[:min(p.left, int64(len(piece.Data)))]
		p.left -= int64(len(piece.Data))
		return piece, nil
	}
}

// originChunks gets chunks that have left the store from the origin. One request yields them for as long as they are
// wanted in order.
type originChunks struct {
	b      *chunkBody
	x      *exchange.Exchange // a copy made when the response began
	stored mesh.Header
	last   uint32 // the last chunk that is missing
	body   io.ReadCloser
	at     uint32 // the chunk that body yields next
}

// maxTries is how often the origin is asked for a chunk after the response to a client has begun. retryDelay is the
// pause before the second try; it doubles each time.
const (
	maxTries   = 5
	retryDelay = 100 * time.Millisecond
)

func (b *chunkBody) newOriginChunks(x *exchange.Exchange, last int) *originChunks {
	stored, _ := b.c.originHeader(b.rec.Header())
	n := b.first + uint32(last) //nolint:gosec // G115: within the body
	return &originChunks{b: b, x: detach(x), stored: stored, last: n}
}

// reading reports whether a request to the origin is open. o may be nil.
func (o *originChunks) reading() bool { return o != nil && o.body != nil }

// chunk returns the nth chunk of the body. For the first missing chunk it tries once only: the response hasn't begun,
// so the request can be answered in another way.
func (o *originChunks) chunk(ctx context.Context, n uint32, first bool) ([]byte, error) {
	wait := retryDelay
	for try := 1; ; try++ {
		data, err := o.try(ctx, n)
		if err == nil || first || try == maxTries || errors.Is(err, errChanged) || ctx.Err() != nil {
			return data, err
		}
		o.close()
		select {
		case <-time.After(wait):
			wait *= 2
		case <-ctx.Done():
			return nil, err
		}
	}
}

func (o *originChunks) try(ctx context.Context, n uint32) ([]byte, error) {
	length := o.b.rec.Length
	if o.body == nil {
		end := min(int64(o.last+1)*chunkSize, length)
		missing := httpcache.Span{First: int64(n) * chunkSize, Last: end - 1}
		body, err := o.b.c.fetchRange(ctx, o.x, o.stored, length, missing)
		if err != nil {
			return nil, err
		}
		o.body, o.at = mesh.NewReader(body), n
	}
	for ; o.at < n; o.at++ { // the range includes chunks that are in memory; skip them
		if _, err := io.CopyN(io.Discard, o.body, chunkSize); err != nil {
			return nil, fmt.Errorf("read from the origin: %w", err)
		}
	}
	data := make([]byte, min(chunkSize, length-int64(n)*chunkSize))
	if _, err := io.ReadFull(o.body, data); err != nil {
		return nil, fmt.Errorf("read from the origin: %w", err)
	}
	o.at++
	return data, nil
}

func (o *originChunks) close() {
	if o.body != nil {
		_ = o.body.Close() // the remaining bytes aren't needed
		o.body = nil
	}
}

// resumable is the body of a response that many may follow, from another node or from the origin. If it breaks off, the
// origin is asked for the remaining bytes.
type resumable struct {
	mesh.Body

	c      *target
	ctx    context.Context //nolint:containedctx // the context of the fetch that reads it
	x      *exchange.Exchange
	stored mesh.Header
	length int64
	at     int64
	tries  int
}

// resumable returns a body that resumes where it breaks off, if the response has a strong validator. Otherwise it
// returns body.
func (c *target) resumable(ctx context.Context, x *exchange.Exchange, body mesh.Body, stored mesh.Header,
	length int64,
) mesh.Body {
	plain, compressed := c.originHeader(stored)
	if compressed || x.Method != http.MethodGet || httpcache.RangeCondition(plain, time.Now()) == "" {
		return body
	}
	return &resumable{Body: body, c: c, ctx: ctx, x: x, stored: plain, length: length}
}

// Next returns the next piece, after a new request if the body broke off.
func (r *resumable) Next() (mesh.Piece, error) {
	for {
		p, err := r.Body.Next()
		if r.at += int64(len(p.Data)); err == nil || r.at >= r.length || r.tries == maxTries || r.ctx.Err() != nil {
			return p, err // not wrapped: callers compare it with io.EOF
		}
		r.tries++
		body, failed := r.c.fetchRange(r.ctx, r.x, r.stored, r.length, httpcache.Span{First: r.at, Last: r.length - 1})
		if failed != nil {
			return p, err
		}
		_ = r.Close() // it has failed; its error is known
		r.Body = body
	}
}
