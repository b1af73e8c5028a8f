package mesh

import (
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"millrace/node"
	"millrace/node/http1"
)

// NATS headers of the messages of a stream (PROTOCOL.md, section 6).
const (
	headerStream = "Millrace-Stream" // on a reply: its body follows as a stream
	headerChunk  = "Millrace-Chunk"  // offset of the payload in the body
	headerKind   = "Millrace-Kind"   // text or binary: the payload is a message of a WebSocket
	headerEnd    = "Millrace-End"    // bytes of the whole body; the payload holds trailer fields
	headerCredit = "Millrace-Credit" // bytes of the whole body that may be sent
	headerAbort  = "Millrace-Abort"  // a node.Code: nothing more comes, nothing more is taken
)

// bodyStream is one side of a request whose bodies are streams. Its two halves are independent: received bytes stay
// readable when the sending half fails.
type bodyStream struct {
	set        *bodyStreams
	token      string
	subject    string         // where the peer sends to
	replies    chan *nats.Msg // at the requester: messages that aren't part of a body; nil at the member
	messages   bool           // the bodies are the messages of a socket
	done       chan struct{}  // closed by end
	lastActive atomic.Int64   // unix nanoseconds of the last byte in either direction

	mu     sync.Mutex // guards the fields below
	peer   string     // subject to send to; empty until known
	in     receiveHalf
	out    sendHalf
	err    error  // why the stream has ended
	cancel func() // called when the stream ends; may be nil
}

// receiveHalf is the receiving half. The stream's mutex guards it.
type receiveHalf struct {
	expected     bool  // there is a body to receive
	length       int64 // announced length, or -1
	queue        []queuedPiece
	consumerBuf  *[]byte // buffer of the piece the consumer holds, if it returns to the pool
	received     int64   // bytes received
	consumed     int64   // bytes the consumer is done with
	granted      int64   // credit: bytes the peer may send, from the beginning
	window       int64   // bytes that may be unread
	pooled       int64   // part of window that is borrowed from the pool
	consumerCost int64   // cost of the piece the consumer holds
	discarded    bool    // nobody wants the rest
	ended        bool    // the end mark came and is right, or no body was expected
	trailer      Header
	wake         chan struct{}
}

// queuedPiece is a piece that waits for the consumer.
type queuedPiece struct {
	Piece

	pooled *[]byte // buffer of the piece, if it returns to the pool
}

// sendHalf is the sending half. The stream's mutex guards it.
type sendHalf struct {
	ended   bool // the body was sent, or there is none
	sent    int64
	allowed int64 // the peer's credit
	source  Body
	wake    chan struct{}
}

func (s *bodyStream) touch() { s.lastActive.Store(time.Now().UnixNano()) }

// expectBody prepares to receive a body of that length, or of unknown length for -1. first is its beginning, if that
// has come already.
func (s *bodyStream) expectBody(length int64, first []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.in.expected, s.in.length, s.in.window = true, length, baseWindow
	if len(first) > 0 {
		s.in.queue = append(s.in.queue, queuedPiece{Piece: Piece{Data: first}})
		s.in.received = int64(len(first))
	}
	if s.err == nil && s.set.borrowWindow(3*baseWindow) {
		s.in.window += 3 * baseWindow
		s.in.pooled = 3 * baseWindow
	}
}

// expectMessages prepares to receive the messages of a socket.
func (s *bodyStream) expectMessages() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.in.expected, s.in.length, s.in.window = true, -1, MaxMessage+messageCost
}

// receive handles a message of the peer.
func (s *bodyStream) receive(msg *nats.Msg, pooled *[]byte) {
	h := msg.Header
	switch {
	case len(msg.Data) == 0 && h.Get(headerStatus) == "503":
		s.noResponders(msg)
	case h[headerChunk] != nil:
		s.endUnless(s.receiveChunk(msg, pooled))
	case h[headerEnd] != nil:
		s.endUnless(s.receiveEnd(msg))
	case h[headerCredit] != nil:
		s.receiveCredit(msg)
	case h[headerAbort] != nil:
		s.end(headerMemberError(h, headerAbort), false)
	default:
		s.queueReply(msg)
	}
}

// errProtocol is the cause of errors for a peer that violates the stream protocol.
var errProtocol = errors.New("the stream lost or repeated bytes, or broke its credit")

func errBrokenStream() *node.Error {
	return node.Errorf(node.CodeBadReply, errProtocol, "the stream broke")
}

// endUnless ends the stream if a received message was invalid.
func (s *bodyStream) endUnless(ok bool) {
	if !ok {
		s.end(errBrokenStream(), true)
	}
}

// noResponders handles NATS's answer that nobody listens on the subject we published to.
func (s *bodyStream) noResponders(msg *nats.Msg) {
	s.mu.Lock()
	known := s.peer != ""
	s.mu.Unlock()
	if !known {
		s.queueReply(msg)
		return
	}
	s.end(node.Errorf(node.CodeUpstream, nil, "the other side of the stream is gone"), false)
}

// queueReply queues a message that isn't part of a body. A peer that sends more than fits violates the protocol.
func (s *bodyStream) queueReply(msg *nats.Msg) {
	select {
	case s.replies <- msg:
	default:
		s.endUnless(false)
	}
}

// receiveChunk appends bytes of the body. It returns false if they aren't the next ones, or exceed the credit or the
// length.
func (s *bodyStream) receiveChunk(msg *nats.Msg, pooled *[]byte) bool {
	offset, err := strconv.ParseInt(msg.Header.Get(headerChunk), 10, 64)
	s.touch()
	s.mu.Lock()
	defer s.mu.Unlock()
	kind := kindOf(msg.Header)
	in, n := &s.in, cost(msg.Data, kind)
	if err != nil || offset != in.received || in.received+n > in.granted || !in.expected || in.ended ||
		(in.length >= 0 && in.received+n > in.length) {
		return false
	}
	in.received += n
	if n > 0 && !in.discarded {
		in.queue = append(in.queue, queuedPiece{Piece{Data: msg.Data, Kind: kind}, pooled})
		signal(in.wake)
	}
	return true
}

// messageCost is what a socket's message counts for beyond its length, since short messages need memory too.
const messageCost = 64

// cost is what a piece counts for in offsets and credit.
func cost(data []byte, kind Kind) int64 {
	if kind != KindBytes {
		return int64(len(data)) + messageCost
	}
	return int64(len(data))
}

func kindOf(h nats.Header) Kind {
	switch h.Get(headerKind) {
	case "text":
		return KindText
	case "binary":
		return KindBinary
	}
	return KindBytes
}

// receiveEnd handles the end mark. It returns false if bytes are missing.
func (s *bodyStream) receiveEnd(msg *nats.Msg) bool {
	total, err := strconv.ParseInt(msg.Header.Get(headerEnd), 10, 64)
	var trailer Header
	if err == nil && len(msg.Data) > 0 {
		trailer, _, err = http1.ParseFields(msg.Data)
	}
	s.mu.Lock()
	in := &s.in
	ok := err == nil && total == in.received && in.expected && !in.ended && (in.length < 0 || in.length == total)
	if ok {
		trailer.Delete(func(f Field) bool { return !node.MayTrail(f.Name) })
		in.ended, in.trailer = true, trailer
		signal(in.wake)
	}
	done := ok && s.out.ended
	s.mu.Unlock()
	if done {
		s.set.remove(s)
	}
	return ok
}

// receiveCredit handles the peer's credit. The first one also tells the subject to send to.
func (s *bodyStream) receiveCredit(msg *nats.Msg) {
	n, err := strconv.ParseInt(msg.Header.Get(headerCredit), 10, 64)
	if err != nil {
		return
	}
	s.setPeer(msg.Reply)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.peer != "" && n > s.out.allowed {
		s.out.allowed = n
		signal(s.out.wake)
	}
}

// setPeer sets the peer's subject, once.
func (s *bodyStream) setPeer(reply string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.peer == "" && s.set.validPeer(reply) {
		s.peer = reply
	}
}

// hasPeer reports whether the peer's subject is known.
func (s *bodyStream) hasPeer() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peer != ""
}

// grantFirst sends the first credit, which tells the requester where to send its body.
func (s *bodyStream) grantFirst() {
	s.mu.Lock()
	n, peer := s.dueCredit(), s.peer
	s.mu.Unlock()
	s.grant(peer, n)
}

// endUnlessClaimed ends the stream if the peer has granted no credit.
func (s *bodyStream) endUnlessClaimed() {
	s.mu.Lock()
	claimed := s.out.allowed > 0
	s.mu.Unlock()
	if !claimed {
		s.end(errEnded, false)
	}
}

// end ends both halves. The first reason counts. With tell, the peer is told unless both bodies are complete.
func (s *bodyStream) end(why error, tell bool) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	s.err = why
	peer, source, cancel := s.peer, s.out.source, s.cancel
	done := s.in.ended && s.out.ended
	s.releaseWindow()
	s.mu.Unlock()
	close(s.done)
	if tell && !done && peer != "" {
		reason, ok := errors.AsType[*node.Error](why)
		if !ok {
			reason = errEnded
		}
		s.set.abort(peer, reason)
	}
	s.set.remove(s) // after the abort: a message for an unknown stream is answered without the reason
	if source != nil {
		closeBody(s.set.log, source) // the owner of the body sees the stream's error
	}
	if cancel != nil {
		cancel()
	}
}

// releaseWindow returns the borrowed part of the window to the pool. The caller holds mu.
func (s *bodyStream) releaseWindow() {
	s.set.pool.Add(s.in.pooled)
	s.in.window, s.in.pooled = 0, 0
}

// probe ends a stream that has been idle for too long. Otherwise it repeats the credit: if the peer is gone, NATS
// answers that nobody listens.
func (s *bodyStream) probe(idle time.Duration) {
	if quiet := time.Since(time.Unix(0, s.lastActive.Load())); idle > 0 && quiet > idle {
		s.end(node.Errorf(node.CodeTimeout, nil, "the stream was idle for too long"), true)
		return
	}
	s.mu.Lock()
	peer, granted := s.peer, s.in.granted
	s.mu.Unlock()
	if peer != "" {
		s.grant(peer, granted)
	}
}

func (s *bodyStream) grant(peer string, n int64) {
	msg := &nats.Msg{Subject: peer, Reply: s.subject, Header: nats.Header{headerCredit: {strconv.FormatInt(n, 10)}}}
	_ = s.set.send(msg) // a lost connection ends every stream
}

// next returns the next piece and grants credit for the previous one.
func (s *bodyStream) next() (Piece, error) {
	for {
		s.mu.Lock()
		in := &s.in
		in.consumed += in.consumerCost
		in.consumerCost = 0
		if in.consumerBuf != nil {
			pieces.Put(in.consumerBuf)
			in.consumerBuf = nil
		}
		var piece Piece
		err, found := s.err, false
		switch {
		case in.discarded:
			err = errBodyClosed
		case len(in.queue) > 0:
			piece, err, found = in.queue[0].Piece, nil, true
			in.consumerBuf = in.queue[0].pooled
			in.queue[0] = queuedPiece{}
			if in.queue = in.queue[1:]; len(in.queue) == 0 {
				in.queue = nil
			}
			in.consumerCost = cost(piece.Data, piece.Kind)
		case in.ended:
			err = io.EOF
			s.releaseWindow()
		}
		more, peer := s.dueCredit(), s.peer
		s.mu.Unlock()
		if more > 0 {
			s.grant(peer, more)
		}
		if err != nil || found {
			return piece, err
		}
		select {
		case <-in.wake:
		case <-s.done:
		}
	}
}

// dueCredit returns the credit to grant now, or 0 for none. Credit is due when half of the window is free, or all of it
// for the messages of a socket. If the peer has used up its credit while the consumer waited, the window is widened.
// The caller holds mu.
func (s *bodyStream) dueCredit() int64 {
	in := &s.in
	if s.peer == "" || in.ended || in.discarded || s.err != nil {
		return 0
	}
	consumerWaits := len(in.queue) == 0 && in.consumerCost == 0
	if consumerWaits && !s.messages && in.granted > 0 && in.received == in.granted && in.window < maxWindow &&
		s.set.borrowWindow(in.window) {
		in.pooled += in.window
		in.window *= 2
	}
	n := in.consumed + in.window
	if enough := n-in.granted >= in.window/2 || (s.messages && consumerWaits); n <= in.granted || !enough {
		return 0
	}
	in.granted = n
	return n
}

// discard drops what was received and is still to come. No further credit is granted.
func (s *bodyStream) discard() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.in.discarded = true
	s.in.queue = nil
	signal(s.in.wake)
}

// sendBody sends a body to its end, as fast as the peer grants credit. The body is closed when the stream ends. If the
// body panics, the stream ends with an error.
func (s *bodyStream) sendBody(b Body) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.set.log.Error("a body panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = node.Errorf(node.CodeInternal, nil, "the body broke off")
			s.end(err, true)
		}
	}()
	if err := s.setSource(b); err != nil {
		return err
	}
	if _, err := s.awaitCredit(0); err != nil { // don't read before the peer wants the body
		return err
	}
	for {
		piece, err := b.Next()
		switch {
		case errors.Is(err, io.EOF):
			return s.sendEnd(b.Trailer())
		case err != nil:
			s.end(err, true)
			return s.endError()
		}
		if err := s.sendPiece(piece); err != nil {
			return err
		}
	}
}

// setSource makes b the body that is sent.
func (s *bodyStream) setSource(b Body) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	s.out.source = b
	return nil
}

// awaitCredit waits for credit of whole bytes, at least one, and returns how many bytes may be sent.
func (s *bodyStream) awaitCredit(whole int64) (free int64, err error) {
	for {
		s.mu.Lock()
		free, err = s.out.allowed-s.out.sent, s.err
		s.mu.Unlock()
		if err != nil || free >= max(whole, 1) {
			return free, err
		}
		select {
		case <-s.out.wake:
		case <-s.done:
		}
	}
}

func (s *bodyStream) sendPiece(p Piece) error {
	if p.Kind != KindBytes {
		if _, err := s.awaitCredit(cost(p.Data, p.Kind)); err != nil {
			return err
		}
		return s.sendChunk(p.Data, p.Kind)
	}
	for data := p.Data; len(data) > 0; {
		free, err := s.awaitCredit(1)
		if err != nil {
			return err
		}
		n := int(min(int64(len(data)), free, maxPiece))
		if err := s.sendChunk(data[:n], p.Kind); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

func (s *bodyStream) sendChunk(data []byte, kind Kind) error {
	s.touch()
	s.mu.Lock()
	msg := &nats.Msg{Subject: s.peer, Data: data, Header: nats.Header{headerChunk: {strconv.FormatInt(s.out.sent, 10)}}}
	s.out.sent += cost(data, kind)
	s.mu.Unlock()
	switch kind {
	case KindText:
		msg.Header[headerKind] = []string{"text"}
	case KindBinary:
		msg.Header[headerKind] = []string{"binary"}
	case KindBytes:
	}
	return s.endOnError(s.set.send(msg))
}

func (s *bodyStream) endOnError(err error) error {
	if err != nil {
		s.end(node.Errorf(node.CodeUnavailable, err, "the mesh connection is away"), false)
		return s.endError()
	}
	return nil
}

func (s *bodyStream) sendEnd(trailer Header) error {
	s.mu.Lock()
	msg := &nats.Msg{Subject: s.peer, Header: nats.Header{headerEnd: {strconv.FormatInt(s.out.sent, 10)}}}
	s.mu.Unlock()
	if len(trailer) > 0 {
		if fields, err := appendFields(nil, trailer); err == nil {
			msg.Data = append(fields, crlf...)
		}
	}
	if err := s.endOnError(s.set.send(msg)); err != nil {
		return err
	}
	s.mu.Lock()
	s.out.ended = true
	done := s.in.ended
	s.mu.Unlock()
	if done {
		s.set.remove(s)
	}
	return nil
}

func (s *bodyStream) endError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// sending reports whether a body is being sent to a peer that has granted credit.
func (s *bodyStream) sending() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.source != nil && !s.out.ended && s.out.allowed > 0 && s.err == nil
}

func (s *bodyStream) trailer() Header {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.in.trailer
}

// signal wakes the waiting goroutine. One pending signal is enough.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
