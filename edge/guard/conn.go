package guard

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"millrace/node"
)

// Conn is one client's connection. One goroutine reads it: the one that serves it. Close may come from any.
type Conn struct {
	net.Conn

	l        *Listener
	in       buffer
	head     []byte // of the announcement, still to be read by the server
	request  *Request
	body     body
	held     int // bytes of the account held until the next request
	account  account
	over     bool
	watch    watch
	sending  *pace         // of a response that streams
	out      sync.Mutex    // guards answered against a 100 Continue of another goroutine
	answered bool          // the response is written already: what the server writes is thrown away
	pause    time.Time     // until which a next request waits; zero if it needn't
	ended    chan struct{} // closed by Close
	used     atomic.Bool   // a request has come
	client   netip.Prefix  // whose connection it is; not valid for one that may have any number
	idle     atomic.Int64  // waiting: since when it waits for a request's head to be complete
	linger   atomic.Bool   // the client may still be sending: see Close
	closed   atomic.Bool
	serving  atomic.Int32

	spare       spare  // what Quick has used up
	requestHead []byte // that the request's strings alias
	// the read deadline that was set between requests, in Unix nanoseconds; 0 if another one was
	restsUntil atomic.Int64
	moved      time.Time    // when Send last wrote, if nothing came between; zero otherwise
	buffers    net.Buffers  // that are being written
	room       [3][]byte    // for them
	wroteUntil atomic.Int64 // likewise of writes by Send
	pace       pace         // of the response that Send writes

	kept    bool // see Keep
	quickly bool // the request before was answered by Quick

	// Scratch is for whoever serves the connection.
	Scratch any
}

// spare is the memory of a request that nobody keeps.
type spare struct {
	head    []byte
	request *Request
}

var (
	errFull   = errors.New("the buffer is at its limit")
	errBudget = errors.New("the budget is used up")
)

// What the server reads in place of a request. It decides by this whether the connection is kept.
var (
	announceKeep    = []byte("GET / HTTP/1.1\r\nHost: m\r\n\r\n")
	announceClose   = []byte("GET / HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n")
	announceKeep10  = []byte("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
	announceClose10 = []byte("GET / HTTP/1.0\r\n\r\n")
)

// Request gives the request that was announced last.
func (c *Conn) Request() *Request { return c.request }

// Read waits for the client's next request and yields its announcement. io.EOF means that there will be none.
func (c *Conn) Read(p []byte) (int, error) {
	for len(c.head) == 0 {
		if err := c.next(); err != nil {
			return 0, err
		}
		if c.l.cfg.Quick != nil && c.quick() {
			c.head = nil
			if !c.kept {
				c.spare = spare{c.requestHead, c.request}
			}
			c.kept, c.quickly = false, true
			runtime.Gosched() // others first: meanwhile the client's next request may come, and needs no wait
		}
	}
	n := copy(p, c.head)
	c.head = c.head[n:]
	return n, nil
}

// The states of serving.
const (
	notServing int32 = iota
	serving          // a request is being answered, though the server believes the connection to be idle
	closing          // it wants it closed, and must wait for the answer
)

// quick lets a request be answered at once. The server may close the connection meanwhile, since to it none has come.
func (c *Conn) quick() bool {
	c.serving.Store(serving)
	done := c.l.cfg.Quick(c)
	if !c.serving.CompareAndSwap(serving, notServing) {
		c.serving.Store(notServing)
		if done {
			c.CloseAfter()
			return true
		}
	}
	return done
}

// SetReadDeadline does nothing: the guard has its own time-outs.
func (c *Conn) SetReadDeadline(time.Time) error { return nil }

// interrupt ends a read that waits, whoever does; the next one sets its own deadline.
func (c *Conn) interrupt() {
	c.readBy(time.Unix(1, 0))
}

// next reads a head, or finds out that there is none to come.
func (c *Conn) next() error {
	c.settle()
	if c.answered, c.sending = false, nil; !c.quickly {
		c.moved = time.Time{}
	}
	c.quickly = false
	if c.over {
		return io.EOF
	}
	if c.request != nil && c.body.discard() != nil {
		c.CloseAfter()
		return io.EOF
	}
	first := c.request == nil
	c.request = c.readHead(first)
	if c.request == nil {
		c.over = true
		return io.EOF
	}
	c.used.Store(true)
	r := c.request
	c.rest(r)
	if c.closed.Load() { // while it rested: nobody could be answered
		c.over = true
		return io.EOF
	}
	if r.Refusal != nil {
		r.Close = true
		c.linger.Store(true)
	}
	c.over = r.Close
	c.body = body{c: c, left: r.Length, chunked: r.Length == Chunked, expect: r.Expect}
	switch {
	case r.HTTP10 && r.Close:
		c.head = announceClose10
	case r.HTTP10:
		c.head = announceKeep10
	case r.Close:
		c.head = announceClose
	default:
		c.head = announceKeep
	}
	return nil
}

// Pause makes the next request wait until so much time has passed from now, and marks it as hasty if it comes before.
// It keeps clients that ask again at once from spending the node's time on refusals.
func (c *Conn) Pause(d time.Duration) { c.pause = time.Now().Add(d) }

// rest holds a request back until the pause is over, or until the connection is closed.
func (c *Conn) rest(r *Request) {
	if c.pause.IsZero() {
		return
	}
	wait := c.pause.Sub(r.Arrived)
	c.pause = time.Time{}
	if wait <= 0 {
		return
	}
	r.Hasty = true
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.ended:
	}
}

// settle gives back what the last request held.
func (c *Conn) settle() {
	if c.held > 0 {
		c.account.give(c.held)
		c.held = 0
	}
	c.in.shrink()
}

// Hold counts n bytes against the budget until the client's next request; false means that there is no room for them.
// Small ones are covered by the limits on requests and connections.
func (c *Conn) Hold(n int) bool {
	const small = 4 << 10
	if n <= small {
		return true
	}
	if !c.account.take(n) {
		return false
	}
	c.held += n
	return true
}

// readHead gives the next request, also one that is refused, or nil when the client went away or stayed idle, or its
// connection was closed for another.
func (c *Conn) readHead(first bool) *Request {
	r := c.awaitHead(first)
	if c.stopWaiting() { // what came at the same moment is too late
		return nil
	}
	return r
}

func (c *Conn) awaitHead(first bool) *Request {
	if len(c.in.unread()) == 0 { // nothing has come yet: the time between requests
		wait := c.l.limits.Load().IdleTimeout
		if first {
			wait = c.l.limits.Load().ReadTimeout
		}
		if c.awaitFirst(wait, first) != nil {
			return nil
		}
	}
	timed := false
	skipped := 0
	for {
		for skipped < maxEmptyLines && bytes.HasPrefix(c.in.unread(), headEnd[:2]) {
			c.in.skip(2)
			skipped++
		}
		head := c.in.unread()
		if end := bytes.Index(head, headEnd); end >= 0 {
			r := c.parse(head[:end+len(headEnd)])
			c.in.skip(end + len(headEnd))
			return r
		}
		if hopeless(head, skipped < maxEmptyLines) {
			return &Request{Refusal: errLine, Arrived: time.Now()}
		}
		if !timed {
			timed = true
			c.readBy(time.Now().Add(c.l.limits.Load().ReadTimeout))
			c.waitsUnproven()
		}
		if err := c.in.fill(c.Conn, c.l.limits.Load().MaxHeader); err != nil {
			return c.incomplete(err)
		}
	}
}

// parse makes the request of a head. Its memory is that of the request before, if nobody has seen that but Quick.
func (c *Conn) parse(head []byte) *Request {
	before := c.spare
	c.spare = spare{}
	own := append(before.head[:0], head...)
	r := before.request
	if r == nil {
		r = &Request{}
	}
	*r = Request{Header: r.Header[:0], Arrived: time.Now()}
	r.parse(own)
	c.requestHead = own
	return r
}

// Keep tells that somebody may keep strings of the request that Quick has answered, so that its memory isn't used
// again.
func (c *Conn) Keep() { c.kept = true }

// awaitFirst waits for the first byte of the next request. A deadline that a request before has set is left alone while
// it is at most a sixteenth too early, and corrected if it comes to that: so most requests set no timer.
func (c *Conn) awaitFirst(wait time.Duration, first bool) error {
	now := c.moved // by Send just now
	if c.moved = (time.Time{}); now.IsZero() {
		now = time.Now()
	}
	until := now.Add(wait)
	if early := until.UnixNano() - c.restsUntil.Load(); early < 0 || early > int64(wait/16) {
		c.readBy(until)
		c.restsUntil.Store(until.UnixNano())
	}
	c.idle.Store(waitingSince(now, first))
	err := c.in.fill(c.Conn, c.l.limits.Load().MaxHeader)
	if timedOut(err) && time.Now().Before(until) {
		c.readBy(until)
		err = c.in.fill(c.Conn, c.l.limits.Load().MaxHeader)
	}
	return err
}

// readBy sets the deadline of reads.
func (c *Conn) readBy(t time.Time) {
	c.restsUntil.Store(0)
	_ = c.Conn.SetReadDeadline(t) // fails only on a closed connection, as the read does
}

// writeBy sets the deadline of writes, unless the one that is set is as late already and at most a sixteenth of the
// grace later.
func (c *Conn) writeBy(t time.Time, grace time.Duration) {
	if left := c.wroteUntil.Load() - t.UnixNano(); left >= 0 && left <= int64(grace/16) {
		return
	}
	t = t.Add(grace / 16)
	_ = c.Conn.SetWriteDeadline(t) // fails only on a closed connection, as the write does
	c.wroteUntil.Store(t.UnixNano())
}

// SetWriteDeadline is for the server's own writes, which set one for each response.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	if grace := time.Until(t); grace > 0 && !t.IsZero() {
		c.writeBy(t, grace)
		return nil
	}
	c.wroteUntil.Store(0)
	return c.Conn.SetWriteDeadline(t) //nolint:wrapcheck // a wrapped connection's errors are its own
}

// hopeless tells early that what has come of a head can't become one, so that a client that speaks another protocol
// doesn't wait for an answer. A lone CR may be the beginning of an empty line.
func hopeless(head []byte, emptyLine bool) bool {
	if len(head) == 0 || (emptyLine && string(head) == "\r") {
		return false
	}
	return head[0] <= ' ' || head[0] >= 0x7f || bareLF(head)
}

var headEnd = []byte("\r\n\r\n")

// maxEmptyLines bounds the empty lines before a request, which are passed over (RFC 9112 §2.2).
const maxEmptyLines = 8

// incomplete refuses a head that hasn't arrived whole, or gives nil when its client is gone.
func (c *Conn) incomplete(err error) *Request {
	r := &Request{Arrived: time.Now()}
	switch {
	case errors.Is(err, errFull):
		if bytes.IndexByte(c.in.unread(), '\n') < 0 {
			r.Refusal = errLongLine
		} else {
			r.Refusal = node.Errorf(node.CodeHeaderTooLarge, nil, "the request head is larger than %s",
				node.Size(c.l.limits.Load().MaxHeader))
		}
	case errors.Is(err, errBudget):
		r.Refusal = errNoMemory
	case timedOut(err) && len(c.in.unread()) > 0:
		r.Refusal = errSlow
	default:
		return nil
	}
	return r
}

var (
	errNoMemory = node.Errorf(node.CodeBusy, nil, "the node holds as many bytes as it may")
	errSlow     = node.Errorf(node.CodeSlowClient, nil, "the request took too long to arrive")
)

func timedOut(err error) bool {
	if err == nil { // by far the most frequent, and As would allocate
		return false
	}
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// ReadBody reads the rest of the request's body, if it has at most limit bytes. Trailer fields are checked and dropped.
// The error is a *node.Error.
func (c *Conn) ReadBody(limit int64) ([]byte, error) { return c.body.readAll(limit) }

// Keepable reports whether another request can follow: nobody wants the connection closed, and what is unread of the
// body is little enough to throw away. When none can, Close waits a little for what the client is still sending.
func (c *Conn) Keepable() bool {
	if !c.body.discardable() {
		c.over = true
	}
	if c.over && (!c.body.done() || len(c.in.unread()) > 0) {
		c.linger.Store(true)
	}
	return !c.over
}

// ClosesAfter reports whether the current request is the last one of its connection, as far as is known before its body
// is read.
func (c *Conn) ClosesAfter() bool { return c.over }

// CloseAfter makes the current request the last one of its connection. Requests that the client has sent behind it are
// dropped.
func (c *Conn) CloseAfter() {
	c.over = true
	c.linger.Store(true)
}

// lingerTime bounds how long Close reads and throws away, so that the client gets to see the response: a connection
// that is closed with bytes unread is reset, and a reset discards what the client hasn't read yet.
const lingerTime = time.Second

// Close ends the connection.
func (c *Conn) Close() error {
	if c.serving.CompareAndSwap(serving, closing) {
		return nil
	}
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	close(c.ended)
	c.watch.client.leave()
	defer c.l.leave(c)
	c.account.close()
	if c.linger.Load() {
		c.lingerOn()
	}
	return c.Conn.Close() //nolint:wrapcheck // a wrapped connection's errors are its own
}

func (c *Conn) lingerOn() {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_ = c.Conn.SetReadDeadline(time.Now().Add(lingerTime)) // fails only on a closed connection
	_, _ = io.Copy(io.Discard, c.Conn)                     // whatever ends it, the connection ends
}
