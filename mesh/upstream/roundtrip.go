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
	"millrace/node/http1"
)

// roundTrip is one request on its connection. It owns the connection until end.
type roundTrip struct {
	t    *target
	c    *conn
	req  *mesh.Request
	stop func() bool // stops watching the request's context; false if that has ended

	expectation *expectation  // delays the request's body; nil if nothing does
	uploaded    chan struct{} // closed when the body's upload has ended; nil if it isn't streamed
	uploadErr   error         // why the upload failed; set before uploaded is closed
	bodyFailed  atomic.Bool   // the request's body failed, which isn't the target's fault

	mu       sync.Mutex
	answered bool // the head is there: no more deadlines are set
	reusable bool // the target accepts another request on the connection
	once     sync.Once
}

// run sends the request and reads the response. A request's body is streamed meanwhile, and the timeout counts from its
// end.
func (rt *roundTrip) run(timeout time.Duration) (*mesh.Response, error) {
	if err := rt.send(timeout); err != nil {
		return nil, err
	}
	h, err := rt.c.finalHead(rt.req, rt.onContinue())
	rt.expectation.decide(false)
	if err != nil {
		return nil, rt.cause(err)
	}
	if h.status == 101 {
		if up := rt.req.Upgrade; up != mesh.UpgradeBytes && !strings.EqualFold(h.fields.Get("Upgrade"), string(up)) {
			return nil, errUpgrade
		}
		return rt.socket(h)
	}
	rt.reusable = rt.c.keepAlive(h)
	body, err := rt.c.frame(h, rt.req.Method)
	if err != nil {
		return nil, err
	}
	rt.reusable = rt.reusable && !body.closesConn
	resp := &mesh.Response{Status: h.status, Reason: h.reason, Header: h.fields}
	body.listed = resp.Header.DropHopByHop()
	all, small, err := body.readSmall()
	if err != nil || small {
		resp.Body = all
		return resp, err
	}
	resp.Length, resp.Stream = body.length, &responseStream{rt: rt, body: body}
	return resp, rt.responseStarted()
}

// onContinue returns the function to call for a 100 Continue, or nil.
func (rt *roundTrip) onContinue() func() {
	if rt.expectation == nil {
		return nil
	}
	return func() { rt.expectation.decide(true) }
}

// responseStarted clears the deadlines of a connection whose response is streamed. The client sets its pace, and the
// mesh ends it when it is idle for too long.
func (rt *roundTrip) responseStarted() error {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	rt.answered = true
	return rt.clearDeadlines()
}

func (rt *roundTrip) clearDeadlines() error {
	if err := rt.c.SetDeadline(time.Time{}); err != nil {
		return fmt.Errorf("read response: %w", err)
	}
	return nil
}

// errRequestBody means that the request's body failed, which isn't a target's fault.
var errRequestBody = errors.New("the request's body broke off")

// cause marks an error of the connection that results from a failed request body.
func (rt *roundTrip) cause(err error) error {
	if rt.bodyFailed.Load() {
		return errors.Join(errRequestBody, err)
	}
	return err
}

func (rt *roundTrip) send(timeout time.Duration) error {
	if err := rt.c.sendHead(rt.req); err != nil {
		return err
	}
	if rt.req.Stream == nil || rt.req.Upgrade != "" {
		return nil
	}
	if err := rt.clearDeadlines(); err != nil {
		return err
	}
	if rt.req.Expect {
		rt.expectation = newExpectation()
	}
	rt.startUpload(func() error {
		if err := rt.expectation.await(); err != nil {
			return err
		}
		err := rt.copyBody(timeout)
		until := time.Now().Add(timeout)
		// Nobody waits for a response to half a request. A target that stopped reading may have sent one, though.
		if rt.bodyFailed.Load() {
			until = time.Unix(1, 0)
		}
		rt.limitHeadWait(until)
		return err
	})
	return nil
}

// limitHeadWait sets the deadline for the head, unless it is there already.
func (rt *roundTrip) limitHeadWait(until time.Time) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if !rt.answered {
		_ = rt.c.SetReadDeadline(until) // fails only on a closed connection
	}
}

// startUpload sends what the client sends, on a goroutine that end waits for.
func (rt *roundTrip) startUpload(run func() error) {
	rt.uploaded = make(chan struct{})
	go func() {
		defer close(rt.uploaded)
		rt.uploadErr = run()
	}()
}

// copyBody sends the request's body. The target must take each piece within the timeout.
func (rt *roundTrip) copyBody(timeout time.Duration) error {
	for {
		p, err := rt.req.Stream.Next()
		if errors.Is(err, io.EOF) {
			return rt.endBody()
		}
		if err != nil {
			rt.bodyFailed.Store(true)
			return fmt.Errorf("read request body: %w", err)
		}
		_ = rt.c.SetWriteDeadline(time.Now().Add(timeout)) // fails only on a closed connection, as the write does
		if err := rt.write(p.Data); err != nil {
			return fmt.Errorf("send request body: %w", err)
		}
	}
}

func (rt *roundTrip) write(p []byte) (err error) {
	if rt.req.Length >= 0 {
		_, err = rt.c.Write(p)
		return err
	}
	line := append(strconv.AppendInt(rt.c.out[:0], int64(len(p)), 16), "\r\n"...)
	parts := net.Buffers{line, p, line[len(line)-2:]}
	_, err = parts.WriteTo(rt.c.Conn)
	return err
}

// endBody sends the end of a chunked body, with its trailer fields.
func (rt *roundTrip) endBody() error {
	if rt.req.Length >= 0 {
		return nil
	}
	_, err := rt.c.Write(http1.AppendLastChunk(rt.c.out[:0], rt.req.Stream.Trailer()))
	return err
}

// socket connects client and target after a 101: bytes are copied in both directions until one side ends.
func (rt *roundTrip) socket(h head) (*mesh.Response, error) {
	if err := rt.responseStarted(); err != nil {
		return nil, err
	}
	body, err := rt.c.frame(h, rt.req.Method)
	if err != nil {
		return nil, err
	}
	rt.startUpload(func() error {
		for {
			p, err := rt.req.Stream.Next()
			if err == nil {
				_, err = rt.c.Write(p.Data)
			}
			if err != nil {
				rt.halfClose()
				return err
			}
		}
	})
	resp := &mesh.Response{Status: h.status, Reason: h.reason, Header: h.fields, Length: -1}
	resp.Stream = &responseStream{rt: rt, body: body}
	resp.Header.DropHopByHop()
	return resp, nil
}

// halfClose tells the target that the client sends no more.
func (rt *roundTrip) halfClose() {
	if half, ok := rt.c.Conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // fails only on a closed connection
	}
}

// end returns the connection to the pool if the whole response was read and the whole request was sent; otherwise it
// closes it. It waits until the request's body is no longer in use.
func (rt *roundTrip) end(whole bool) {
	rt.once.Do(func() {
		sent := true
		if rt.uploaded != nil {
			select {
			case <-rt.uploaded:
				sent = rt.uploadErr == nil
			default:
				sent = false
			}
		}
		if rt.stop() && whole && sent && rt.reusable && rt.c.r == rt.c.w {
			rt.c.shrinkBuffer()
			rt.t.pool.put(rt.c)
		} else {
			rt.t.pool.drop(rt.c)
		}
		if rt.uploaded != nil {
			_ = rt.req.Stream.Close() // its reader may wait for the client
			<-rt.uploaded
		}
	})
}

// responseStream is a response's body that is streamed.
type responseStream struct {
	rt     *roundTrip
	body   *body
	ended  sync.Once
	closed atomic.Bool // nobody wants the rest
}

func (s *responseStream) Next() (mesh.Piece, error) {
	p, err := s.body.next()
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		s.finish(true)
	case !s.closed.Load():
		err = s.rt.t.reportFailure(context.Background(), s.rt.req, err)
	}
	return mesh.Piece{Data: p}, err
}

// Trailer returns the trailer fields, except those that the Connection field lists (RFC 9110 §7.6.1).
func (s *responseStream) Trailer() mesh.Header {
	s.body.trailer.Delete(func(f mesh.Field) bool { return s.body.listed[strings.ToLower(f.Name)] })
	return s.body.trailer
}

// Close ends the round trip. After the end of the body it does nothing.
func (s *responseStream) Close() error {
	s.closed.Store(true)
	s.finish(false)
	return nil
}

func (s *responseStream) finish(whole bool) {
	s.ended.Do(func() {
		if whole && s.body.framing != untilClose {
			s.rt.end(true)
		} else {
			_ = s.rt.c.Close() // also ends a waiting Next
			s.rt.end(false)
		}
		s.rt.t.releaseStream()
	})
}
