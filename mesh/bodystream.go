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
)

// NATS headers of the messages of a stream (DESIGN.md, section 6).
const (
	headerStream = "Millrace-Stream" // on a reply: its body follows as a stream
	headerChunk  = "Millrace-Chunk"  // offset of the payload in the body
	headerKind   = "Millrace-Kind"   // text or binary: the payload is a message of a WebSocket
	headerEnd    = "Millrace-End"    // bytes of the whole body; the payload holds trailer fields
	headerCredit = "Millrace-Credit" // bytes of the whole body that may be sent
	headerAbort  = "Millrace-Abort"  // a node.Code: nothing more comes, nothing more is taken
)

// link is one side of an exchange whose bodies are streams. Its two halves are independent: what is received stays good
// when the sending half fails.
type bodyStream struct {
	set        *bodyStreams
	token      string
	subject    string         // where the peer writes to
	replies    chan *nats.Msg // for the requester: what isn't part of a body; nil at the member's side
	messages   bool           // the bodies are messages of a socket
	done       chan struct{}  // closed by end
	lastActive atomic.Int64   // unix nanoseconds of the last byte either way

	mu     sync.Mutex
	peer   string // where to write to; empty until it is known
	in     receiveHalf
	out    sendHalf
	err    error  // why the link has ended
	cancel func() // told when the link ends; may be nil
}

// inflow is the receiving half. The link's mutex guards it.
type receiveHalf struct {
	expected     bool  // a body is to come
	length       int64 // that was announced, or -1
	queue        []queuedPiece
	consumerBuf  *[]byte // the buffer of the piece that the consumer holds, if it goes back to the pool
	received     int64   // bytes received
	consumed     int64   // bytes that the consumer is done with
	granted      int64   // bytes that the peer may send, counted from the beginning
	window       int64   // bytes that may be unread
	pooled       int64   // of them out of the pool
	consumerCost int64   // bytes of the piece that the consumer holds
	discarded    bool    // nobody wants it any more
	ended        bool    // the end mark has come and is right, or none ever will
	trailer      Header
	wake         chan struct{}
}

// arrived is a piece that waits for the consumer.
type queuedPiece struct {
	Piece

	pooled *[]byte // its memory, if that goes back to the pool
}

// outflow is the sending half. The link's mutex guards it.
type sendHalf struct {
	ended   bool // the body was sent, or none ever will be
	sent    int64
	allowed int64 // by the peer's credit
	source  Body
	wake    chan struct{}
}

func (s *bodyStream) touch() { s.lastActive.Store(time.Now().UnixNano()) }

// expect prepares for a body of that length, or -1. The first bytes may be there already.
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

// expectMessages prepares for the messages of a socket.
func (s *bodyStream) expectMessages() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.in.expected, s.in.length, s.in.window = true, -1, MaxMessage+messageCost
}

// receive takes a message of the peer.
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

// errProtocol is the cause of errors that the peer made in the stream itself.
var errProtocol = errors.New("the stream lost or repeated bytes, or broke its credit")

func errBrokenStream() *node.Error {
	return node.Errorf(node.CodeBadReply, errProtocol, "the stream broke")
}

// check ends the link if what was received is wrong.
func (s *bodyStream) endUnless(ok bool) {
	if !ok {
		s.end(errBrokenStream(), true)
	}
}

// vanished tells that nobody listens where we wrote to.
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

// reply passes on what isn't part of a body. A peer that says too much breaks the protocol.
func (s *bodyStream) queueReply(msg *nats.Msg) {
	select {
	case s.replies <- msg:
	default:
		s.endUnless(false)
	}
}

// chunk takes bytes of the body; false if they aren't the next ones, or too many.
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

// messageCost is what a message of a socket counts for beyond its length: short ones need memory too.
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

// finish takes the end mark; false if bytes are missing.
func (s *bodyStream) receiveEnd(msg *nats.Msg) bool {
	total, err := strconv.ParseInt(msg.Header.Get(headerEnd), 10, 64)
	var trailer Header
	if err == nil && len(msg.Data) > 0 {
		trailer, _, err = ParseFields(msg.Data)
	}
	s.mu.Lock()
	in := &s.in
	ok := err == nil && total == in.received && in.expected && !in.ended && (in.length < 0 || in.length == total)
	if ok {
		trailer.Delete(func(f Field) bool { return !node.MayTrail(f.Name) })
		in.ended, in.trailer = true, trailer
		signal(in.wake)
	}
	over := ok && s.out.ended
	s.mu.Unlock()
	if over {
		s.set.remove(s)
	}
	return ok
}

// credit takes the peer's leave to send more, and with its first the subject to send to.
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

// meet learns where the peer is, once.
func (s *bodyStream) setPeer(reply string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.peer == "" && s.set.validPeer(reply) {
		s.peer = reply
	}
}

// met reports whether it is known where the peer is.
func (s *bodyStream) hasPeer() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peer != ""
}

// accept tells the requester where to send its body, and how much of it.
func (s *bodyStream) grantFirst() {
	s.mu.Lock()
	n, peer := s.dueCredit(), s.peer
	s.mu.Unlock()
	s.grant(peer, n)
}

// unclaimed ends a link whose answer nobody took up.
func (s *bodyStream) endUnlessClaimed() {
	s.mu.Lock()
	claimed := s.out.allowed > 0
	s.mu.Unlock()
	if !claimed {
		s.end(errEnded, false)
	}
}

// end ends both halves for one reason, the first that comes; the peer is told if it doesn't know.
func (s *bodyStream) end(why error, tell bool) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	s.err = why
	peer, source, cancel := s.peer, s.out.source, s.cancel
	over := s.in.ended && s.out.ended
	s.releaseWindow()
	s.mu.Unlock()
	close(s.done)
	if tell && !over && peer != "" {
		reason, ok := errors.AsType[*node.Error](why)
		if !ok {
			reason = errEnded
		}
		s.set.abort(peer, reason)
	}
	s.set.remove(s) // now, as what comes for a link that isn't there is answered without the reason
	if source != nil {
		closeBody(s.set.log, source) // its owner sees the link's error
	}
	if cancel != nil {
		cancel()
	}
}

// shrink gives back to the pool what the window took. The caller holds mu.
func (s *bodyStream) releaseWindow() {
	s.set.pool.Add(s.in.pooled)
	s.in.window, s.in.pooled = 0, 0
}

// keep ends a link on which no byte has moved for the idle time, and asks after the peer: NATS answers for one that is
// gone.
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
	_ = s.set.send(msg) // a lost connection ends every link
}

// next gives the consumer the next piece, and the peer new credit for the one before.
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

// due tells the credit that the peer should be told now, 0 for none: when half of the window is free, or all of it for
// the messages of a socket. A peer that used up its credit while the consumer waited gets a wider window. The caller
// holds mu.
func (s *bodyStream) dueCredit() int64 {
	in := &s.in
	if s.peer == "" || in.ended || in.discarded || s.err != nil {
		return 0
	}
	waits := len(in.queue) == 0 && in.consumerCost == 0
	if waits && !s.messages && in.granted > 0 && in.received == in.granted && in.window < maxWindow && s.set.borrowWindow(in.window) {
		in.pooled += in.window
		in.window *= 2
	}
	n := in.consumed + in.window
	if enough := n-in.granted >= in.window/2 || (s.messages && waits); n <= in.granted || !enough {
		return 0
	}
	in.granted = n
	return n
}

// drop ends the interest in what is received. The peer may send no more than it was allowed.
func (s *bodyStream) discard() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.in.discarded = true
	s.in.queue = nil
	signal(s.in.wake)
}

// send sends a body to its end, as fast as the peer takes it. The body is closed when the link ends. A body that panics
// breaks off.
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
	if _, err := s.awaitCredit(0); err != nil { // nothing is read before somebody takes it
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

// begin binds the body to the link.
func (s *bodyStream) setSource(b Body) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	s.out.source = b
	return nil
}

// await waits until the peer allows whole bytes, or a first one, and gives how many it allows in all.
func (s *bodyStream) awaitCredit(whole int64) (room int64, err error) {
	for {
		s.mu.Lock()
		room, err = s.out.allowed-s.out.sent, s.err
		s.mu.Unlock()
		if err != nil || room >= max(whole, 1) {
			return room, err
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
		room, err := s.awaitCredit(1)
		if err != nil {
			return err
		}
		n := int(min(int64(len(data)), room, maxPiece))
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
	over := s.in.ended
	s.mu.Unlock()
	if over {
		s.set.remove(s)
	}
	return nil
}

func (s *bodyStream) endError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// sending reports whether a body is still being sent to a peer that takes it.
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

// signal wakes whoever waits; a signal that is there already is enough.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
