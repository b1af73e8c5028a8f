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

// Conn is one client's connection. One goroutine at a time reads it: the one that serves it. Close may be called from
// any goroutine.
type Conn struct {
	net.Conn

	l            *Listener
	buf          buffer
	announcement []byte // the part of it that the server hasn't read yet
	request      *Request
	body         body
	held         int // bytes of account that Hold took, until the next request
	account      account
	last         bool // the current request is the last one of the connection
	watch        watch
	penaltyEnds  time.Time     // when the next request may be served; zero if at once
	ended        chan struct{} // closed by Close
	used         atomic.Bool   // a whole request has arrived
	client       netip.Prefix  // counted against MaxPerClient; invalid if the client may have any number
	waiting      atomic.Int64  // since when it waits for a whole head: see evicted and unproven
	linger       atomic.Bool   // Close waits a little, since the client may still be sending
	closed       atomic.Bool
	serving      atomic.Int32

	sending

	reusable    requestMemory // memory of the last request that Config.Short answered
	requestHead []byte        // the strings of request refer to it
	// The read deadline set by awaitFirst, in Unix nanoseconds; 0 if another one has been set since.
	idleDeadline atomic.Int64

	retained bool // see Retain
	wasShort bool // the last request was answered by Config.Short

	// UserData is for the code that serves the connection. The guard doesn't use it.
	UserData any
}

// sending is the state of what is written to the client past the server.
type sending struct {
	streaming     *pace        // of a response that streams; nil before the first Send
	outMu         sync.Mutex   // guards answered against sendContinue in another goroutine
	answered      bool         // the response has been sent: what the server writes is discarded
	lastWrite     time.Time    // when Send last wrote, if the request was answered by Config.Short; else zero
	buffers       net.Buffers  // being written by Send
	bufferArray   [3][]byte    // backing array of buffers
	writeDeadline atomic.Int64 // the write deadline, in Unix nanoseconds; 0 if it isn't known
	pace          pace         // memory of streaming
	files         fileWriter   // what SendFile writes with
}

// requestMemory is the memory of a request to which nobody refers anymore.
type requestMemory struct {
	head    []byte
	request *Request
}

var (
	errFull   = errors.New("the buffer is at its limit")
	errBudget = errors.New("the budget is used up")
)

// The announcements: what the server reads in place of a request. From them it decides whether to keep the connection.
var (
	announceKeep    = []byte("GET / HTTP/1.1\r\nHost: m\r\n\r\n")
	announceClose   = []byte("GET / HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n")
	announceKeep10  = []byte("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
	announceClose10 = []byte("GET / HTTP/1.0\r\n\r\n")
)

// Request returns the request that was announced last.
func (c *Conn) Request() *Request { return c.request }

// Read waits for the client's next request and returns its announcement. It returns io.EOF if there will be none.
func (c *Conn) Read(p []byte) (int, error) {
	for len(c.announcement) == 0 {
		if err := c.next(); err != nil {
			return 0, err
		}
		if c.l.cfg.Short != nil && c.answerShort() {
			c.announcement = nil
			if !c.retained {
				c.reusable = requestMemory{c.requestHead, c.request}
			}
			c.retained, c.wasShort = false, true
			runtime.Gosched() // run others first: the client's next request may arrive meanwhile, which saves a wait
		}
	}
	n := copy(p, c.announcement)
	c.announcement = c.announcement[n:]
	return n, nil
}

// States of Conn.serving. They settle a race between answerShort and the server, which believes that the connection is
// idle:
//
//  1. answerShort sets serving and calls Config.Short.
//  2. The server calls Close, which sets closing and returns.
//  3. answerShort finds closing. If the request has been answered, it makes it the last one of the connection.
const (
	notServing int32 = iota
	serving          // Config.Short is answering a request
	closing          // the server wants the connection closed after the answer
)

// answerShort calls Config.Short, and reports whether that has answered the request. The server may close the
// connection meanwhile: see serving.
func (c *Conn) answerShort() bool {
	c.serving.Store(serving)
	done := c.l.cfg.Short(c)
	if !c.serving.CompareAndSwap(serving, notServing) {
		c.serving.Store(notServing)
		if done {
			c.CloseAfter()
			return true
		}
	}
	return done
}

// SetReadDeadline does nothing: the guard sets its own deadlines.
func (c *Conn) SetReadDeadline(time.Time) error { return nil }

// interrupt ends a read that is waiting, in any goroutine. The next read sets its own deadline.
func (c *Conn) interrupt() {
	c.setReadDeadline(time.Unix(1, 0))
}

// next reads the next request's head and sets its announcement. It returns io.EOF if there is no further request.
func (c *Conn) next() error {
	c.releaseHeld()
	if c.answered, c.streaming = false, nil; !c.wasShort {
		c.lastWrite = time.Time{}
	}
	c.wasShort = false
	if c.last {
		return io.EOF
	}
	if c.request != nil && c.body.discard() != nil {
		c.CloseAfter()
		return io.EOF
	}
	first := c.request == nil
	c.request = c.readHead(first)
	if c.request == nil {
		c.last = true
		return io.EOF
	}
	c.used.Store(true)
	r := c.request
	c.waitPenalty(r)
	if c.closed.Load() { // during the penalty: the answer could reach nobody
		c.last = true
		return io.EOF
	}
	if r.Refusal != nil {
		r.Close = true
		c.linger.Store(true)
	}
	c.last = r.Close
	c.body = body{c: c, left: r.Length, chunked: r.Length == Chunked, expect: r.Expect}
	switch {
	case r.HTTP10 && r.Close:
		c.announcement = announceClose10
	case r.HTTP10:
		c.announcement = announceKeep10
	case r.Close:
		c.announcement = announceClose
	default:
		c.announcement = announceKeep
	}
	return nil
}

// Penalize delays the next request until d has passed from now, and marks it as Penalized if it arrives before. It
// keeps clients that ask again at once from using up the node's time with refusals.
func (c *Conn) Penalize(d time.Duration) { c.penaltyEnds = time.Now().Add(d) }

// waitPenalty waits until the penalty is over or the connection is closed.
func (c *Conn) waitPenalty(r *Request) {
	if c.penaltyEnds.IsZero() {
		return
	}
	wait := c.penaltyEnds.Sub(r.Arrived)
	c.penaltyEnds = time.Time{}
	if wait <= 0 {
		return
	}
	r.Penalized = true
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.ended:
	}
}

// releaseHeld returns the memory that the last request held.
func (c *Conn) releaseHeld() {
	if c.held > 0 {
		c.account.give(c.held)
		c.held = 0
	}
	c.buf.shrink()
}

// Hold counts n bytes against the budget until the client's next request. It returns false if the budget has too few.
// Up to 4 KiB aren't counted: the limits on requests and connections bound them.
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

// readHead returns the next request, also if it is refused. It returns nil if the client went away or stayed idle, or
// if the connection was closed for another.
func (c *Conn) readHead(first bool) *Request {
	r := c.awaitHead(first)
	if c.endWait() { // a head that arrived at the same moment is too late
		return nil
	}
	return r
}

func (c *Conn) awaitHead(first bool) *Request {
	if len(c.buf.unread()) == 0 { // the time between requests, or before the first
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
		for skipped < maxEmptyLines && bytes.HasPrefix(c.buf.unread(), headEnd[:2]) {
			c.buf.skip(2)
			skipped++
		}
		head := c.buf.unread()
		if end := bytes.Index(head, headEnd); end >= 0 {
			r := c.parse(head[:end+len(headEnd)])
			c.buf.skip(end + len(headEnd))
			return r
		}
		if malformedStart(head, skipped < maxEmptyLines) {
			return &Request{Refusal: errLine, Arrived: time.Now()}
		}
		if !timed {
			timed = true
			c.setReadDeadline(time.Now().Add(c.l.limits.Load().ReadTimeout))
			c.markUnproven()
		}
		if err := c.buf.fill(c.Conn, c.l.limits.Load().MaxHeader); err != nil {
			return c.incomplete(err)
		}
	}
}

// parse returns the request of a head. It uses the memory of the last request if only Config.Short has seen that.
func (c *Conn) parse(head []byte) *Request {
	reusable := c.reusable
	c.reusable = requestMemory{}
	text := append(reusable.head[:0], head...)
	r := reusable.request
	if r == nil {
		r = &Request{}
	}
	*r = Request{Header: r.Header[:0], Arrived: time.Now()}
	r.parse(text)
	c.requestHead = text
	return r
}

// Retain keeps the memory of the current request from being used again. Config.Short must call it if strings of the
// request may be used after it returns.
func (c *Conn) Retain() { c.retained = true }

// awaitFirst waits for the first byte of the next request. Most requests set no timer: an earlier deadline stays while
// it is at most a sixteenth of wait too early. If it expires, the wait goes on until the right one.
func (c *Conn) awaitFirst(wait time.Duration, first bool) error {
	now := c.lastWrite // set by Send a moment ago
	if c.lastWrite = (time.Time{}); now.IsZero() {
		now = time.Now()
	}
	until := now.Add(wait)
	if early := until.UnixNano() - c.idleDeadline.Load(); early < 0 || early > int64(wait/16) {
		c.setReadDeadline(until)
		c.idleDeadline.Store(until.UnixNano())
	}
	c.waiting.Store(waitStart(now, first))
	err := c.buf.fill(c.Conn, c.l.limits.Load().MaxHeader)
	if timedOut(err) && time.Now().Before(until) {
		c.setReadDeadline(until)
		err = c.buf.fill(c.Conn, c.l.limits.Load().MaxHeader)
	}
	return err
}

// setReadDeadline sets the deadline of reads.
func (c *Conn) setReadDeadline(t time.Time) {
	c.idleDeadline.Store(0)
	_ = c.Conn.SetReadDeadline(t) // fails only on a closed connection, as the read does
}

// extendWriteDeadline sets the write deadline to a sixteenth of grace after t, unless the current one is between t and
// that. So most writes set no timer.
func (c *Conn) extendWriteDeadline(t time.Time, grace time.Duration) {
	if left := c.writeDeadline.Load() - t.UnixNano(); left >= 0 && left <= int64(grace/16) {
		return
	}
	t = t.Add(grace / 16)
	_ = c.Conn.SetWriteDeadline(t) // fails only on a closed connection, as the write does
	c.writeDeadline.Store(t.UnixNano())
}

// SetWriteDeadline is for the server's own writes. The server sets a deadline for each response.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	if grace := time.Until(t); grace > 0 && !t.IsZero() {
		c.extendWriteDeadline(t, grace)
		return nil
	}
	c.writeDeadline.Store(0)
	return c.Conn.SetWriteDeadline(t)
}

// malformedStart reports whether the bytes received can't become a head, so that a client that speaks another protocol
// is answered at once. A lone CR may be the beginning of an empty line.
func malformedStart(head []byte, emptyLine bool) bool {
	if len(head) == 0 || (emptyLine && string(head) == "\r") {
		return false
	}
	return head[0] <= ' ' || head[0] >= 0x7f || bareLF(head)
}

var headEnd = []byte("\r\n\r\n")

// maxEmptyLines bounds the empty lines before a request, which are ignored (RFC 9112 §2.2).
const maxEmptyLines = 8

// incomplete returns the refusal of a head that hasn't arrived whole, or nil if the client went away.
func (c *Conn) incomplete(err error) *Request {
	r := &Request{Arrived: time.Now()}
	switch {
	case errors.Is(err, errFull):
		if bytes.IndexByte(c.buf.unread(), '\n') < 0 {
			r.Refusal = errLongLine
		} else {
			r.Refusal = node.Errorf(node.CodeHeaderTooLarge, nil, "the request head is larger than %s",
				node.Size(c.l.limits.Load().MaxHeader))
		}
	case errors.Is(err, errBudget):
		r.Refusal = errNoMemory
	case timedOut(err) && len(c.buf.unread()) > 0:
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
	if err == nil { // the usual case, and errors.As would allocate
		return false
	}
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// ReadBody reads the rest of the request's body, at most limit bytes. Trailer fields are checked and dropped. The error
// is a *node.Error.
func (c *Conn) ReadBody(limit int64) ([]byte, error) { return c.body.readAll(limit) }

// Keepable reports whether another request can follow: the connection needn't be closed, and the unread rest of the
// body is small enough to discard. If it isn't, Close waits a little for what the client is still sending.
func (c *Conn) Keepable() bool {
	if !c.body.discardable() {
		c.last = true
	}
	if c.last && (!c.body.done() || len(c.buf.unread()) > 0) {
		c.linger.Store(true)
	}
	return !c.last
}

// ClosesAfter reports whether the current request is the last one of its connection, as far as is known before its body
// is read.
func (c *Conn) ClosesAfter() bool { return c.last }

// CloseAfter makes the current request the last one of its connection. Requests that the client has sent after it are
// dropped.
func (c *Conn) CloseAfter() {
	c.last = true
	c.linger.Store(true)
}

// lingerTime bounds how long Close reads and discards, so that the client can read the response. A connection that is
// closed with unread bytes is reset, and a reset discards what the client hasn't read yet.
const lingerTime = time.Second

// Close closes the connection. It returns at once if Config.Short is answering a request; the connection ends after the
// answer. If the client may still be sending, Close first waits up to lingerTime. A second Close returns net.ErrClosed.
func (c *Conn) Close() error {
	if c.serving.CompareAndSwap(serving, closing) {
		return nil
	}
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	close(c.ended)
	c.watch.context.cancel()
	defer c.l.drop(c)
	c.account.close()
	if c.linger.Load() {
		c.drainClient()
	}
	return c.Conn.Close()
}

func (c *Conn) drainClient() {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_ = c.Conn.SetReadDeadline(time.Now().Add(lingerTime)) // fails only on a closed connection
	_, _ = io.Copy(io.Discard, c.Conn)                     // the connection is closed whatever the error
}
