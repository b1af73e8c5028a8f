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

// NATS headers of the messages of a stream (PROTOCOL.md, section 6).
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
type link struct {
	t        *links
	token    string
	local    string         // where the peer writes to
	replies  chan *nats.Msg // for the requester: what isn't part of a body; nil at the member's side
	messages bool           // the bodies are messages of a socket
	done     chan struct{}  // closed by end
	used     atomic.Int64   // unix nanoseconds of the last byte either way

	mu     sync.Mutex
	peer   string // where to write to; empty until it is known
	in     inflow
	out    outflow
	err    error  // why the link has ended
	cancel func() // told when the link ends; may be nil
}

// inflow is the receiving half. The link's mutex guards it.
type inflow struct {
	open    bool  // a body is to come
	length  int64 // that was announced, or -1
	queue   []arrived
	held    *[]byte // the buffer of the piece that the consumer holds, if it goes back to the pool
	got     int64   // bytes received
	taken   int64   // bytes that the consumer is done with
	granted int64   // bytes that the peer may send, counted from the beginning
	window  int64   // bytes that may be unread
	extra   int64   // of them out of the pool
	pending int64   // bytes of the piece that the consumer holds
	dropped bool    // nobody wants it any more
	ended   bool    // the end mark has come and is right, or none ever will
	trailer Header
	wake    chan struct{}
}

// arrived is a piece that waits for the consumer.
type arrived struct {
	Piece

	pooled *[]byte // its memory, if that goes back to the pool
}

// outflow is the sending half. The link's mutex guards it.
type outflow struct {
	over    bool // the body was sent, or none ever will be
	sent    int64
	allowed int64 // by the peer's credit
	source  Body
	wake    chan struct{}
}

func (l *link) touch() { l.used.Store(time.Now().UnixNano()) }

// expect prepares for a body of that length, or -1. The first bytes may be there already.
func (l *link) expect(length int64, first []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.in.open, l.in.length, l.in.window = true, length, baseWindow
	if len(first) > 0 {
		l.in.queue = append(l.in.queue, arrived{Piece: Piece{Data: first}})
		l.in.got = int64(len(first))
	}
	if l.err == nil && l.t.widen(3*baseWindow) {
		l.in.window += 3 * baseWindow
		l.in.extra = 3 * baseWindow
	}
}

// expectMessages prepares for the messages of a socket.
func (l *link) expectMessages() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.in.open, l.in.length, l.in.window = true, -1, MaxMessage+messageCost
}

// receive takes a message of the peer.
func (l *link) receive(msg *nats.Msg, pooled *[]byte) {
	h := msg.Header
	switch {
	case len(msg.Data) == 0 && h.Get(headerStatus) == "503":
		l.vanished(msg)
	case h[headerChunk] != nil:
		l.check(l.chunk(msg, pooled))
	case h[headerEnd] != nil:
		l.check(l.finish(msg))
	case h[headerCredit] != nil:
		l.credit(msg)
	case h[headerAbort] != nil:
		l.end(reportedError(h, headerAbort), false)
	default:
		l.reply(msg)
	}
}

// errProtocol is the cause of errors that the peer made in the stream itself.
var errProtocol = errors.New("the stream lost or repeated bytes, or broke its credit")

func broken() *node.Error {
	return node.Errorf(node.CodeBadReply, errProtocol, "the stream broke")
}

// check ends the link if what was received is wrong.
func (l *link) check(ok bool) {
	if !ok {
		l.end(broken(), true)
	}
}

// vanished tells that nobody listens where we wrote to.
func (l *link) vanished(msg *nats.Msg) {
	l.mu.Lock()
	known := l.peer != ""
	l.mu.Unlock()
	if !known {
		l.reply(msg)
		return
	}
	l.end(node.Errorf(node.CodeUpstream, nil, "the other side of the stream is gone"), false)
}

// reply passes on what isn't part of a body. A peer that says too much breaks the protocol.
func (l *link) reply(msg *nats.Msg) {
	select {
	case l.replies <- msg:
	default:
		l.check(false)
	}
}

// chunk takes bytes of the body; false if they aren't the next ones, or too many.
func (l *link) chunk(msg *nats.Msg, pooled *[]byte) bool {
	offset, err := strconv.ParseInt(msg.Header.Get(headerChunk), 10, 64)
	l.touch()
	l.mu.Lock()
	defer l.mu.Unlock()
	kind := kindOf(msg.Header)
	in, n := &l.in, cost(msg.Data, kind)
	if err != nil || offset != in.got || in.got+n > in.granted || !in.open || in.ended ||
		(in.length >= 0 && in.got+n > in.length) {
		return false
	}
	in.got += n
	if n > 0 && !in.dropped {
		in.queue = append(in.queue, arrived{Piece{Data: msg.Data, Kind: kind}, pooled})
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
func (l *link) finish(msg *nats.Msg) bool {
	total, err := strconv.ParseInt(msg.Header.Get(headerEnd), 10, 64)
	var trailer Header
	if err == nil && len(msg.Data) > 0 {
		trailer, _, err = ParseFields(msg.Data)
	}
	l.mu.Lock()
	in := &l.in
	ok := err == nil && total == in.got && in.open && !in.ended && (in.length < 0 || in.length == total)
	if ok {
		trailer.Delete(func(f Field) bool { return !node.MayTrail(f.Name) })
		in.ended, in.trailer = true, trailer
		signal(in.wake)
	}
	over := ok && l.out.over
	l.mu.Unlock()
	if over {
		l.t.remove(l)
	}
	return ok
}

// credit takes the peer's leave to send more, and with its first the subject to send to.
func (l *link) credit(msg *nats.Msg) {
	n, err := strconv.ParseInt(msg.Header.Get(headerCredit), 10, 64)
	if err != nil {
		return
	}
	l.meet(msg.Reply)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.peer != "" && n > l.out.allowed {
		l.out.allowed = n
		signal(l.out.wake)
	}
}

// meet learns where the peer is, once.
func (l *link) meet(reply string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.peer == "" && l.t.mayBePeer(reply) {
		l.peer = reply
	}
}

// met reports whether it is known where the peer is.
func (l *link) met() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.peer != ""
}

// accept tells the requester where to send its body, and how much of it.
func (l *link) accept() {
	l.mu.Lock()
	n, peer := l.due(), l.peer
	l.mu.Unlock()
	l.grant(peer, n)
}

// unclaimed ends a link whose answer nobody took up.
func (l *link) unclaimed() {
	l.mu.Lock()
	claimed := l.out.allowed > 0
	l.mu.Unlock()
	if !claimed {
		l.end(errEnded, false)
	}
}

// end ends both halves for one reason, the first that comes; the peer is told if it doesn't know.
func (l *link) end(why error, tell bool) {
	l.mu.Lock()
	if l.err != nil {
		l.mu.Unlock()
		return
	}
	l.err = why
	peer, source, cancel := l.peer, l.out.source, l.cancel
	over := l.in.ended && l.out.over
	l.shrink()
	l.mu.Unlock()
	close(l.done)
	if tell && !over && peer != "" {
		reason, ok := errors.AsType[*node.Error](why)
		if !ok {
			reason = errEnded
		}
		l.t.abort(peer, reason)
	}
	l.t.remove(l) // now, as what comes for a link that isn't there is answered without the reason
	if source != nil {
		closeBody(l.t.log, source) // its owner sees the link's error
	}
	if cancel != nil {
		cancel()
	}
}

// shrink gives back to the pool what the window took. The caller holds mu.
func (l *link) shrink() {
	l.t.pool.Add(l.in.extra)
	l.in.window, l.in.extra = 0, 0
}

// keep ends a link on which no byte has moved for the idle time, and asks after the peer: NATS answers for one that is
// gone.
func (l *link) keep(idle time.Duration) {
	if quiet := time.Since(time.Unix(0, l.used.Load())); idle > 0 && quiet > idle {
		l.end(node.Errorf(node.CodeTimeout, nil, "the stream was idle for too long"), true)
		return
	}
	l.mu.Lock()
	peer, granted := l.peer, l.in.granted
	l.mu.Unlock()
	if peer != "" {
		l.grant(peer, granted)
	}
}

func (l *link) grant(peer string, n int64) {
	msg := &nats.Msg{Subject: peer, Reply: l.local, Header: nats.Header{headerCredit: {strconv.FormatInt(n, 10)}}}
	_ = l.t.send(msg) // a lost connection ends every link
}

// next gives the consumer the next piece, and the peer new credit for the one before.
func (l *link) next() (Piece, error) {
	for {
		l.mu.Lock()
		in := &l.in
		in.taken += in.pending
		in.pending = 0
		if in.held != nil {
			pieces.Put(in.held)
			in.held = nil
		}
		var piece Piece
		err, found := l.err, false
		switch {
		case in.dropped:
			err = errBodyClosed
		case len(in.queue) > 0:
			piece, err, found = in.queue[0].Piece, nil, true
			in.held = in.queue[0].pooled
			in.queue[0] = arrived{}
			if in.queue = in.queue[1:]; len(in.queue) == 0 {
				in.queue = nil
			}
			in.pending = cost(piece.Data, piece.Kind)
		case in.ended:
			err = io.EOF
			l.shrink()
		}
		more, peer := l.due(), l.peer
		l.mu.Unlock()
		if more > 0 {
			l.grant(peer, more)
		}
		if err != nil || found {
			return piece, err
		}
		select {
		case <-in.wake:
		case <-l.done:
		}
	}
}

// due tells the credit that the peer should be told now, 0 for none: when half of the window is free, or all of it for
// the messages of a socket. A peer that used up its credit while the consumer waited gets a wider window. The caller
// holds mu.
func (l *link) due() int64 {
	in := &l.in
	if l.peer == "" || in.ended || in.dropped || l.err != nil {
		return 0
	}
	waits := len(in.queue) == 0 && in.pending == 0
	if waits && !l.messages && in.granted > 0 && in.got == in.granted && in.window < maxWindow && l.t.widen(in.window) {
		in.extra += in.window
		in.window *= 2
	}
	n := in.taken + in.window
	if enough := n-in.granted >= in.window/2 || (l.messages && waits); n <= in.granted || !enough {
		return 0
	}
	in.granted = n
	return n
}

// drop ends the interest in what is received. The peer may send no more than it was allowed.
func (l *link) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.in.dropped = true
	l.in.queue = nil
	signal(l.in.wake)
}

// send sends a body to its end, as fast as the peer takes it. The body is closed when the link ends. A body that panics
// breaks off.
func (l *link) send(b Body) (err error) {
	defer func() {
		if p := recover(); p != nil {
			l.t.log.Error("a body panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = node.Errorf(node.CodeInternal, nil, "the body broke off")
			l.end(err, true)
		}
	}()
	if err := l.begin(b); err != nil {
		return err
	}
	if _, err := l.await(0); err != nil { // nothing is read before somebody takes it
		return err
	}
	for {
		piece, err := b.Next()
		switch {
		case errors.Is(err, io.EOF):
			return l.sendEnd(b.Trailer())
		case err != nil:
			l.end(err, true)
			return l.failure()
		}
		if err := l.sendPiece(piece); err != nil {
			return err
		}
	}
}

// begin binds the body to the link.
func (l *link) begin(b Body) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	l.out.source = b
	return nil
}

// await waits until the peer allows whole bytes, or a first one, and gives how many it allows in all.
func (l *link) await(whole int64) (room int64, err error) {
	for {
		l.mu.Lock()
		room, err = l.out.allowed-l.out.sent, l.err
		l.mu.Unlock()
		if err != nil || room >= max(whole, 1) {
			return room, err
		}
		select {
		case <-l.out.wake:
		case <-l.done:
		}
	}
}

func (l *link) sendPiece(p Piece) error {
	if p.Kind != KindBytes {
		if _, err := l.await(cost(p.Data, p.Kind)); err != nil {
			return err
		}
		return l.publish(p.Data, p.Kind)
	}
	for data := p.Data; len(data) > 0; {
		room, err := l.await(1)
		if err != nil {
			return err
		}
		n := int(min(int64(len(data)), room, maxPiece))
		if err := l.publish(data[:n], p.Kind); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

func (l *link) publish(data []byte, kind Kind) error {
	l.touch()
	l.mu.Lock()
	msg := &nats.Msg{Subject: l.peer, Data: data, Header: nats.Header{headerChunk: {strconv.FormatInt(l.out.sent, 10)}}}
	l.out.sent += cost(data, kind)
	l.mu.Unlock()
	switch kind {
	case KindText:
		msg.Header[headerKind] = []string{"text"}
	case KindBinary:
		msg.Header[headerKind] = []string{"binary"}
	case KindBytes:
	}
	return l.published(l.t.send(msg))
}

func (l *link) published(err error) error {
	if err != nil {
		l.end(node.Errorf(node.CodeUnavailable, err, "the mesh connection is away"), false)
		return l.failure()
	}
	return nil
}

func (l *link) sendEnd(trailer Header) error {
	l.mu.Lock()
	msg := &nats.Msg{Subject: l.peer, Header: nats.Header{headerEnd: {strconv.FormatInt(l.out.sent, 10)}}}
	l.mu.Unlock()
	if len(trailer) > 0 {
		if fields, err := appendFields(nil, trailer); err == nil {
			msg.Data = append(fields, crlf...)
		}
	}
	if err := l.published(l.t.send(msg)); err != nil {
		return err
	}
	l.mu.Lock()
	l.out.over = true
	over := l.in.ended
	l.mu.Unlock()
	if over {
		l.t.remove(l)
	}
	return nil
}

func (l *link) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// sending reports whether a body is still being sent to a peer that takes it.
func (l *link) sending() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.source != nil && !l.out.over && l.out.allowed > 0 && l.err == nil
}

func (l *link) trailer() Header {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.in.trailer
}

// signal wakes whoever waits; a signal that is there already is enough.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
