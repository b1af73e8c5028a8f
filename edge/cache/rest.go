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
	errChanged  = errors.New("the origin has another representation than the one of which a part has left the store")
	errNotGiven = errors.New("the origin doesn't give what has left the store")
)

// rest asks the origin for a span of a stored representation, and takes it of no other. The body gives exactly the
// span, or fails. It fails with errChanged if the origin has another one now.
func (c *target) rest(
	ctx context.Context, x *exchange.Exchange, stored mesh.Header, length int64, s httpcache.Span,
) (mesh.Body, error) {
	if otherRange(x) { // of what is stored for it no bytes can be asked for
		return nil, errNotGiven
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
		return partOf(resp, 0, s.Len()), nil
	case resp.Status == http.StatusOK && same: // it knows no ranges
		return partOf(resp, s.First, s.Len()), nil
	}
	exchange.CloseBody(resp)
	switch resp.Status {
	case http.StatusOK, http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable:
		return nil, errChanged
	}
	return nil, fmt.Errorf("%w: status %d", errNotGiven, resp.Status)
}

// partOf gives a span of a response's body.
func partOf(resp *mesh.Response, skip, left int64) mesh.Body {
	if resp.Stream == nil {
		resp.Stream = mesh.NewBody(bytes.NewReader(resp.Body))
	}
	return &spanBody{Body: resp.Stream, skip: skip, left: left}
}

// spanBody is a span of a body. It fails if the body ends before.
type spanBody struct {
	mesh.Body

	skip, left int64
}

// Next leaves out what isn't wanted.
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
			return mesh.Piece{}, err //nolint:wrapcheck // a wrapped body's errors are its own
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

// mender brings chunks that have left the store from the origin, with one request as long as they are wanted one after
// the other.
type mender struct {
	b      *chunkBody
	x      *exchange.Exchange // as it was when the response began
	stored mesh.Header
	last   uint32 // the last chunk that is missing
	body   io.ReadCloser
	at     uint32 // the chunk that body gives next
}

// tries is how often the origin is asked for a chunk on which a client waits whose response has begun, and pauseOfTries
// what lies between, each time doubled.
const (
	tries        = 5
	pauseOfTries = 100 * time.Millisecond
)

func (b *chunkBody) newMender(x *exchange.Exchange, last int) *mender {
	stored, _ := b.c.plain(b.rec.Header())
	n := b.first + uint32(last) //nolint:gosec // G115: within the body
	return &mender{b: b, x: detach(x), stored: stored, last: n}
}

// asked reports whether the origin is giving already. m may be nil.
func (m *mender) asked() bool { return m != nil && m.body != nil }

// chunk gives the nth chunk of the body. Before a response has begun one try is enough: there are other ways to answer.
func (m *mender) chunk(ctx context.Context, n uint32, first bool) ([]byte, error) {
	wait := pauseOfTries
	for try := 1; ; try++ {
		data, err := m.try(ctx, n)
		if err == nil || first || try == tries || errors.Is(err, errChanged) || ctx.Err() != nil {
			return data, err
		}
		m.close()
		select {
		case <-time.After(wait):
			wait *= 2
		case <-ctx.Done():
			return nil, err
		}
	}
}

func (m *mender) try(ctx context.Context, n uint32) ([]byte, error) {
	length := m.b.rec.Length
	if m.body == nil {
		end := min(int64(m.last+1)*chunkSize, length)
		body, err := m.b.c.rest(ctx, m.x, m.stored, length, httpcache.Span{First: int64(n) * chunkSize, Last: end - 1})
		if err != nil {
			return nil, err
		}
		m.body, m.at = mesh.NewReader(body), n
	}
	for ; m.at < n; m.at++ { // what is in memory comes along
		if _, err := io.CopyN(io.Discard, m.body, chunkSize); err != nil {
			return nil, fmt.Errorf("read from the origin: %w", err)
		}
	}
	data := make([]byte, min(chunkSize, length-int64(n)*chunkSize))
	if _, err := io.ReadFull(m.body, data); err != nil {
		return nil, fmt.Errorf("read from the origin: %w", err)
	}
	m.at++
	return data, nil
}

func (m *mender) close() {
	if m.body != nil {
		_ = m.body.Close() // nobody wants the rest
		m.body = nil
	}
}

// resuming is the body of a response that many may follow, from another node or from the origin. Should it break off,
// the origin gives the rest.
type resuming struct {
	mesh.Body

	c      *target
	ctx    context.Context //nolint:containedctx // of the fetch that reads it
	x      *exchange.Exchange
	stored mesh.Header
	length int64
	at     int64
	tries  int
}

// resumed makes a body go on where it breaks off, if it has a strong validator.
func (c *target) resumed(ctx context.Context, x *exchange.Exchange, body mesh.Body, stored mesh.Header,
	length int64,
) mesh.Body {
	plain, compressed := c.plain(stored)
	if compressed || x.Method != http.MethodGet || httpcache.RangeCondition(plain, time.Now()) == "" {
		return body
	}
	return &resuming{Body: body, c: c, ctx: ctx, x: x, stored: plain, length: length}
}

// Next goes on where the body broke off.
func (r *resuming) Next() (mesh.Piece, error) {
	for {
		p, err := r.Body.Next()
		if r.at += int64(len(p.Data)); err == nil || r.at >= r.length || r.tries == tries || r.ctx.Err() != nil {
			return p, err //nolint:wrapcheck // io.EOF must stay itself
		}
		r.tries++
		rest, failed := r.c.rest(r.ctx, r.x, r.stored, r.length, httpcache.Span{First: r.at, Last: r.length - 1})
		if failed != nil {
			return p, err //nolint:wrapcheck // see above
		}
		_ = r.Close() // it has told all that it will
		r.Body = rest
	}
}
