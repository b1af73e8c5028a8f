package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"millrace/mesh"
)

// exchange is one request on its connection. It owns the connection until end.
type exchange struct {
	t    *target
	c    *conn
	req  *mesh.Request
	stop func() bool // ends the watch over the request's context; false if that has ended

	expects  *expectation  // holds the request's body back; nil if nothing does
	uploaded chan struct{} // closed when the request's body is sent or given up; nil if it doesn't stream
	upload   error         // why it was given up; set before uploaded is closed
	brokeOff atomic.Bool   // the request's body broke off, for which the target can do nothing

	mu       sync.Mutex
	answered bool // the head is there: from now on no deadline is set
	keep     bool // the target takes another request on the connection
	once     sync.Once
}

// run sends the request and reads the response. A request's body streams while the response is awaited: the time counts
// from its end.
func (x *exchange) run(timeout time.Duration) (*mesh.Response, error) {
	if err := x.send(timeout); err != nil {
		return nil, err
	}
	h, err := x.c.finalHead(x.req, x.goOn())
	x.expects.decide(false)
	if err != nil {
		return nil, x.cause(err)
	}
	if h.status == 101 {
		if up := x.req.Upgrade; up != mesh.UpgradeBytes && !strings.EqualFold(h.fields.Get("Upgrade"), string(up)) {
			return nil, errSwitched
		}
		return x.socket(h)
	}
	x.keep = x.c.keepAlive(h)
	body, err := x.c.frame(h, x.req.Method)
	if err != nil {
		return nil, err
	}
	x.keep = x.keep && !body.last
	resp := &mesh.Response{Status: h.status, Reason: h.reason, Header: h.fields}
	body.listed = resp.Header.DropHopByHop()
	all, small, err := body.small()
	if err != nil || small {
		resp.Body = all
		return resp, err
	}
	resp.Length, resp.Stream = body.length, &stream{x: x, body: body}
	return resp, x.rest()
}

// goOn gives what a 100 Continue does.
func (x *exchange) goOn() func() {
	if x.expects == nil {
		return nil
	}
	return func() { x.expects.decide(true) }
}

// rest takes the time-outs away from a connection whose response streams: its pace is the client's, and the mesh ends
// it when nothing moves for long.
func (x *exchange) rest() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.answered = true
	return x.unbound()
}

func (x *exchange) unbound() error {
	if err := x.c.SetDeadline(time.Time{}); err != nil {
		return fmt.Errorf("read response: %w", err)
	}
	return nil
}

// errBrokeOff means that a request's body broke off, for which no target can do anything.
var errBrokeOff = errors.New("the request's body broke off")

// cause tells an error of the connection that is only the consequence of the upload's.
func (x *exchange) cause(err error) error {
	if x.brokeOff.Load() {
		return errors.Join(errBrokeOff, err)
	}
	return err
}

func (x *exchange) send(timeout time.Duration) error {
	if err := x.c.sendHead(x.req); err != nil {
		return err
	}
	if x.req.Stream == nil || x.req.Upgrade != "" {
		return nil
	}
	if err := x.unbound(); err != nil {
		return err
	}
	if x.req.Expect {
		x.expects = newExpectation()
	}
	x.begin(func() error {
		if err := x.expects.await(); err != nil {
			return err
		}
		err := x.copyBody(timeout)
		until := time.Now().Add(timeout)
		// nobody waits for a response to half a request; a target that stopped reading may have sent one
		if x.brokeOff.Load() {
			until = time.Unix(1, 0)
		}
		x.await(until)
		return err
	})
	return nil
}

// await bounds the time until the head, unless it is there already.
func (x *exchange) await(until time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.answered {
		_ = x.c.SetReadDeadline(until) // fails only on a closed connection
	}
}

// begin sends what the client sends on a goroutine of its own, which end waits for.
func (x *exchange) begin(run func() error) {
	x.uploaded = make(chan struct{})
	go func() {
		defer close(x.uploaded)
		x.upload = run()
	}()
}

// copyBody sends the request's body. The target must take each piece within the time-out.
func (x *exchange) copyBody(timeout time.Duration) error {
	for {
		p, err := x.req.Stream.Next()
		if errors.Is(err, io.EOF) {
			return x.endBody()
		}
		if err != nil {
			x.brokeOff.Store(true)
			return fmt.Errorf("read request body: %w", err)
		}
		_ = x.c.SetWriteDeadline(time.Now().Add(timeout)) // fails only on a closed connection, as the write does
		if err := x.write(p.Data); err != nil {
			return fmt.Errorf("send request body: %w", err)
		}
	}
}

func (x *exchange) write(p []byte) (err error) {
	if x.req.Length >= 0 {
		_, err = x.c.Write(p)
		return err //nolint:wrapcheck // the caller says what was written
	}
	line := append(strconv.AppendInt(x.c.out[:0], int64(len(p)), 16), "\r\n"...)
	parts := net.Buffers{line, p, line[len(line)-2:]}
	_, err = parts.WriteTo(x.c.Conn)
	return err //nolint:wrapcheck // see above
}

// endBody ends a chunked body, with the trailer fields that came.
func (x *exchange) endBody() error {
	if x.req.Length >= 0 {
		return nil
	}
	_, err := x.c.Write(mesh.AppendLastChunk(x.c.out[:0], x.req.Stream.Trailer()))
	return err //nolint:wrapcheck // see above
}

// socket joins client and target after a 101: bytes pass both ways until one side ends.
func (x *exchange) socket(h head) (*mesh.Response, error) {
	if err := x.rest(); err != nil {
		return nil, err
	}
	body, err := x.c.frame(h, x.req.Method)
	if err != nil {
		return nil, err
	}
	x.begin(func() error {
		for {
			p, err := x.req.Stream.Next()
			if err == nil {
				_, err = x.c.Write(p.Data)
			}
			if err != nil {
				x.halfClose()
				return err //nolint:wrapcheck // nobody reads it
			}
		}
	})
	resp := &mesh.Response{Status: h.status, Reason: h.reason, Header: h.fields, Length: -1}
	resp.Stream = &stream{x: x, body: body}
	resp.Header.DropHopByHop()
	return resp, nil
}

// halfClose tells the target that the client sends no more.
func (x *exchange) halfClose() {
	if half, ok := x.c.Conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // fails only on a closed connection
	}
}

// end gives the connection back, if the response was read whole and the request sent whole, or closes it. It waits
// until nobody touches the request's body any more.
func (x *exchange) end(whole bool) {
	x.once.Do(func() {
		sent := true
		if x.uploaded != nil {
			select {
			case <-x.uploaded:
				sent = x.upload == nil
			default:
				sent = false
			}
		}
		if x.stop() && whole && sent && x.keep && x.c.r == x.c.w {
			x.c.shrink()
			x.t.pool.put(x.c)
		} else {
			x.t.pool.drop(x.c)
		}
		if x.uploaded != nil {
			_ = x.req.Stream.Close() // it may wait for the client
			<-x.uploaded
		}
	})
}

// stream is a response's body that is passed on as it comes.
type stream struct {
	x      *exchange
	body   *body
	ended  sync.Once
	closed atomic.Bool // nobody wants it any more
}

func (s *stream) Next() (mesh.Piece, error) {
	p, err := s.body.next()
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		s.finish(true)
	case !s.closed.Load():
		err = s.x.t.tell(context.Background(), s.x.req, err)
	}
	return mesh.Piece{Data: p}, err
}

// Trailer gives what may go on (RFC 9110 §7.6.1).
func (s *stream) Trailer() mesh.Header {
	s.body.trailer.Delete(func(f mesh.Field) bool { return s.body.listed[strings.ToLower(f.Name)] })
	return s.body.trailer
}

// Close ends the exchange; after its end it does nothing.
func (s *stream) Close() error {
	s.closed.Store(true)
	s.finish(false)
	return nil
}

func (s *stream) finish(whole bool) {
	s.ended.Do(func() {
		if whole && s.body.framing != untilClose {
			s.x.end(true)
		} else {
			_ = s.x.c.Close() // also ends a Next that waits
			s.x.end(false)
		}
		s.x.t.leaveStream()
	})
}
