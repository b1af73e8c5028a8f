package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"millrace/mesh"
)

// outcome is how one try at a target ended.
type outcome struct {
	resp   *mesh.Response
	err    error
	unsent bool // nothing of the request can have reached the target
}

// roundTrip asks the target once. A repeatable request whose reused connection turns out to be closed is sent again, on a
// new one: that says nothing about the target.
func (t *target) roundTrip(ctx context.Context, req *mesh.Request, deadline time.Time) outcome {
	t.inFlight.Add(1)
	defer t.inFlight.Add(-1)
	t.requests.Add(1)
	if c := t.pool.get(); c != nil {
		resp, err := t.exchange(ctx, c, req, deadline)
		if err == nil {
			return outcome{resp: resp}
		}
		if !mesh.Repeatable(req.Method) || ctx.Err() != nil || c.w > 0 || !time.Now().Before(deadline) {
			return outcome{err: err}
		}
	}
	dialing, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	c, err := t.pool.dial(dialing)
	if err != nil {
		return outcome{err: err, unsent: true}
	}
	resp, err := t.exchange(ctx, c, req, deadline)
	return outcome{resp: resp, err: err}
}

// exchange sends the request on the connection and reads the response. The connection then goes back to the pool, or is
// closed if it can't be used again. Canceling ctx ends it at once.
func (t *target) exchange(ctx context.Context, c *conn, req *mesh.Request, deadline time.Time) (*mesh.Response, error) {
	c.r, c.w = 0, 0
	if err := c.SetDeadline(deadline); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("send request: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) }) // fails only on a closed connection
	resp, reusable, err := c.roundTrip(req)
	if !stop() || !reusable || err != nil {
		_ = c.Close()
		return resp, err
	}
	t.pool.put(c)
	return resp, nil
}

func (c *conn) roundTrip(req *mesh.Request) (resp *mesh.Response, reusable bool, err error) {
	if err := c.send(req); err != nil {
		return nil, false, err
	}
	return c.response(req.Method)
}

func (c *conn) send(req *mesh.Request) error {
	c.out = appendRequest(c.out[:0], req)
	_, err := c.Write(c.out)
	if cap(c.out) > maxHead {
		c.out = nil // a large body must not stay in memory with the connection
	}
	if err != nil {
		return fmt.Errorf("send request: %w", err)
	}
	return nil
}

// appendRequest writes the request as the target gets it. Its fields were checked when the mesh message was decoded.
func appendRequest(b []byte, r *mesh.Request) []byte {
	b = append(append(append(append(b, r.Method...), ' '), r.Target...), " HTTP/1.1\r\nHost: "...)
	b = append(append(b, r.Host...), "\r\n"...)
	for _, f := range r.Header {
		b = append(append(append(append(b, f.Name...), ": "...), f.Value...), "\r\n"...)
	}
	if len(r.Body) > 0 || expectsBody(r.Method) {
		b = append(strconv.AppendInt(append(b, "Content-Length: "...), int64(len(r.Body)), 10), "\r\n"...)
	}
	return append(append(b, "\r\n"...), r.Body...)
}

// expectsBody names the methods whose empty body is announced (RFC 9110 §8.6).
func expectsBody(method string) bool { return method == "POST" || method == "PUT" || method == "PATCH" }

// head is a parsed response head.
type head struct {
	status int
	http10 bool
	fields mesh.Header
}

// response reads a final response; interim ones (1xx) are skipped.
func (c *conn) response(method string) (*mesh.Response, bool, error) {
	h, err := c.finalHead()
	if err != nil {
		return nil, false, err
	}
	keep := c.keepAlive(h)
	body, ends, err := c.body(h, method)
	if err != nil {
		return nil, false, err
	}
	resp := &mesh.Response{Status: h.status, Header: h.fields, Body: body}
	resp.Header.DropHopByHop()
	return resp, keep && !ends && c.r == c.w, nil
}

// maxInterim bounds the interim responses (1xx) before a final one.
const maxInterim = 8

// finalHead reads the head of the final response.
func (c *conn) finalHead() (head, error) {
	for range maxInterim {
		h, err := c.head()
		switch {
		case err != nil:
			return head{}, err
		case h.status == 101:
			return head{}, fmt.Errorf("%w: 101 without a request for it", errBroken)
		case h.status >= 200:
			return h, nil
		}
	}
	return head{}, fmt.Errorf("%w: too many interim responses", errBroken)
}

// head reads status line and fields into memory of their own, which the response keeps.
func (c *conn) head() (head, error) {
	raw, err := c.until([]byte("\r\n\r\n"))
	if err != nil {
		return head{}, err
	}
	own := bytes.Clone(raw)
	line, rest, _ := bytes.Cut(own, []byte("\r\n"))
	h := head{http10: bytes.HasPrefix(line, []byte("HTTP/1.0 "))}
	if len(line) < 12 || (!h.http10 && !bytes.HasPrefix(line, []byte("HTTP/1.1 "))) || (len(line) > 12 && line[12] != ' ') {
		return head{}, fmt.Errorf("%w: status line", errBroken)
	}
	status, err := strconv.ParseUint(string(line[9:12]), 10, 16)
	if h.status = int(status); err != nil || h.status < 100 || h.status > 599 {
		return head{}, fmt.Errorf("%w: status", errBroken)
	}
	if h.fields, _, err = mesh.ParseFields(rest); err != nil {
		return head{}, fmt.Errorf("%w: %w", errBroken, err)
	}
	return h, nil
}

// keepAlive tells whether the target will take another request on the connection, and for how long it may rest.
func (c *conn) keepAlive(h head) bool {
	connection := strings.ToLower(strings.Join(h.fields.Values("Connection"), ","))
	if strings.Contains(connection, "close") || (h.http10 && !strings.Contains(connection, "keep-alive")) {
		return false
	}
	if _, value, ok := strings.Cut(h.fields.Get("Keep-Alive"), "timeout="); ok {
		seconds, _, _ := strings.Cut(value, ",")
		if n, err := strconv.Atoi(strings.TrimSpace(seconds)); err == nil {
			c.idle = min(idleFor, time.Duration(n)*time.Second-time.Second) // a second early: the target's clock runs too
		}
	}
	return c.idle > 0
}

// body reads the body as RFC 9112 §6.3 frames it. ends tells that the connection ends with it.
func (c *conn) body(h head, method string) (body []byte, ends bool, err error) {
	if method == "HEAD" || h.status == 204 || h.status == 304 {
		return nil, false, nil
	}
	codings, lengths := h.fields.Values("Transfer-Encoding"), h.fields.Values("Content-Length")
	switch {
	case len(codings) > 0:
		if len(codings) > 1 || !strings.EqualFold(codings[0], "chunked") || h.http10 {
			return nil, false, fmt.Errorf("%w: transfer coding", errBroken)
		}
		body, err = c.chunked()
		return body, len(lengths) > 0, err
	case len(lengths) > 0:
		body, err = c.sized(lengths)
		return body, false, err
	default:
		body, err = c.readAll(mesh.MaxBody)
		return body, true, err
	}
}

func (c *conn) sized(lengths []string) ([]byte, error) {
	n, err := strconv.ParseUint(lengths[0], 10, 62)
	if err != nil || strings.Trim(lengths[0], "0123456789") != "" {
		return nil, fmt.Errorf("%w: Content-Length", errBroken)
	}
	for _, other := range lengths[1:] {
		if other != lengths[0] {
			return nil, fmt.Errorf("%w: two different Content-Lengths", errBroken)
		}
	}
	if n > uint64(mesh.MaxBody) {
		return nil, mesh.ErrBodyTooLarge
	}
	body := make([]byte, n)
	return body, c.readFull(body)
}

// chunked reads a chunked body and drops its trailer (RFC 9112 §7.1).
func (c *conn) chunked() ([]byte, error) {
	var body []byte
	for {
		line, err := c.until([]byte("\r\n"))
		if err != nil {
			return nil, err
		}
		size, _, _ := strings.Cut(string(line[:len(line)-2]), ";")
		n, err := strconv.ParseUint(strings.TrimRight(size, " \t"), 16, 32)
		if err != nil {
			return nil, fmt.Errorf("%w: chunk size", errBroken)
		}
		if n == 0 {
			return body, c.trailer()
		}
		if uint64(len(body))+n > uint64(mesh.MaxBody) {
			return nil, mesh.ErrBodyTooLarge
		}
		start := len(body)
		body = append(body, make([]byte, n)...)
		if err := c.readFull(body[start:]); err != nil {
			return nil, err
		}
		var end [2]byte
		if err := c.readFull(end[:]); err != nil {
			return nil, err
		}
		if end != [2]byte{'\r', '\n'} {
			return nil, fmt.Errorf("%w: chunk end", errBroken)
		}
	}
}

func (c *conn) trailer() error {
	for range mesh.MaxFields {
		line, err := c.until([]byte("\r\n"))
		if err != nil {
			return err
		}
		if len(line) == 2 {
			return nil
		}
	}
	return errors.Join(errBroken, mesh.ErrFieldCount)
}
