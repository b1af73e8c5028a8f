package front

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/gobwas/ws"

	"millrace/mesh"
	"millrace/node"
)

// Trailer fields that tell how a socket of messages ended (RFC 6455 §7.4): from the client, and from the service.
const (
	closeCode   = "Close-Code"
	closeReason = "Close-Reason"
)

// messages reads the frames of a client's WebSocket and gives whole messages, for services that know messages only.
// Pings are answered here. The client's close ends the body, with its code and reason as trailer fields.
type messages struct {
	raw     mesh.Body
	in      io.Reader
	head    frameHead     // reads in, for the head of a frame
	opened  chan struct{} // closed by open: nothing is read before
	closed  chan struct{}
	once    sync.Once
	k       *socket // set before opened is closed
	part    []byte  // of a message whose end hasn't come
	kind    ws.OpCode
	trailer mesh.Header
}

func newMessages(raw mesh.Body) *messages {
	in := mesh.NewReader(raw)
	return &messages{
		raw: raw, in: in, head: frameHead{in: in}, opened: make(chan struct{}),
		closed: make(chan struct{}),
	}
}

// frameHead reads the head of a frame and remembers its first bytes, which ws.Header doesn't hold.
type frameHead struct {
	in    io.Reader
	first [2]byte
	n     int // bytes that were read
}

func (h *frameHead) Read(p []byte) (int, error) {
	n, err := h.in.Read(p)
	if h.n < len(h.first) {
		copy(h.first[h.n:], p[:n])
	}
	h.n += n
	return n, err //nolint:wrapcheck // io.EOF must stay itself
}

// minimal reports whether the payload's length is written in as few bytes as it takes (RFC 6455 §5.2).
func (h *frameHead) minimal(length int64) bool {
	switch h.first[1] & 0x7f {
	case 126:
		return length > 125
	case 127:
		return length > 0xffff
	}
	return true
}

// open begins the reading, when the client has its 101. What must be answered at once is written to k.
func (m *messages) open(k *socket) {
	m.k = k
	close(m.opened)
}

var errSocketClosed = node.Errorf(node.CodeCanceled, nil, "the socket is closed")

func (m *messages) Next() (mesh.Piece, error) {
	select {
	case <-m.opened:
	case <-m.closed:
		return mesh.Piece{}, errSocketClosed
	}
	for {
		p, err := m.frame()
		if status, ok := errors.AsType[violation](err); ok {
			m.k.bye(ws.StatusCode(status), "")
			return mesh.Piece{}, errSocketClosed
		}
		if err != nil || p.Data != nil {
			return p, err
		}
	}
}

// violation is what a client did that ends its socket, as a close code.
type violation ws.StatusCode

// Error names the close code.
func (v violation) Error() string { return "close code " + strconv.Itoa(int(v)) }

// frame reads one frame. No message and no error means that it completes none.
func (m *messages) frame() (mesh.Piece, error) {
	m.head.n = 0
	h, err := ws.ReadHeader(&m.head)
	switch {
	case errors.Is(err, ws.ErrHeaderLengthMSB), errors.Is(err, ws.ErrHeaderLengthUnexpected),
		err == nil && !m.head.minimal(h.Length):
		return mesh.Piece{}, violation(ws.StatusProtocolError)
	case err != nil:
		return mesh.Piece{}, broken(err)
	}
	state := ws.StateServerSide
	if m.kind != 0 {
		state |= ws.StateFragmented
	}
	if err := ws.CheckHeader(h, state); err != nil {
		return mesh.Piece{}, violation(ws.StatusProtocolError)
	}
	if !h.OpCode.IsControl() && h.Length > int64(mesh.MaxMessage-len(m.part)) {
		return mesh.Piece{}, violation(ws.StatusMessageTooBig)
	}
	payload := make([]byte, h.Length)
	if _, err := io.ReadFull(m.in, payload); err != nil {
		return mesh.Piece{}, broken(err)
	}
	ws.Cipher(payload, h.Mask, 0)
	if h.OpCode.IsControl() {
		return mesh.Piece{}, m.control(h.OpCode, payload)
	}
	return m.data(h, payload)
}

// broken is the end of a connection without a close frame (RFC 6455 §7.1.5): an error, as nothing says that all was
// sent.
func broken(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errSocketClosed
	}
	return err
}

// data collects the fragments of a message.
func (m *messages) data(h ws.Header, payload []byte) (mesh.Piece, error) {
	if h.OpCode != ws.OpContinuation {
		m.kind = h.OpCode
	}
	m.part = append(m.part, payload...)
	if !h.Fin {
		return mesh.Piece{}, nil
	}
	p := mesh.Piece{Data: m.part, Kind: mesh.KindBinary}
	if p.Data == nil {
		p.Data = []byte{}
	}
	if m.kind == ws.OpText {
		p.Kind = mesh.KindText
		if !utf8.Valid(p.Data) {
			return mesh.Piece{}, violation(ws.StatusInvalidFramePayloadData)
		}
	}
	m.part, m.kind = nil, 0
	return p, nil
}

// control answers a ping and takes a close, which it echoes (RFC 6455 §5.5).
func (m *messages) control(op ws.OpCode, payload []byte) error {
	if op == ws.OpPing && m.k.frame(ws.OpPong, payload) != nil {
		return errSocketClosed
	}
	if op != ws.OpClose {
		return nil
	}
	code, reason := ws.ParseCloseFrameData(payload)
	if len(payload) > 0 {
		if ws.CheckCloseFrameData(code, reason) != nil {
			return violation(ws.StatusProtocolError)
		}
		m.trailer = mesh.Header{{Name: closeCode, Value: strconv.Itoa(int(code))}}
		if reason != "" && printable(reason) {
			m.trailer.Add(closeReason, reason)
		}
	}
	m.k.bye(code, "")
	return io.EOF
}

// printable reports whether a reason can stand in a header field.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

func (m *messages) Trailer() mesh.Header { return m.trailer }

func (m *messages) Close() error {
	m.once.Do(func() { close(m.closed) })
	return m.raw.Close() //nolint:wrapcheck // a wrapped body's errors are its own
}

// frame writes one frame to the client.
func (k *socket) frame(op ws.OpCode, payload []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.writeFrame(op, payload)
}

// writeFrame writes one frame. Nothing follows a close. The caller holds mu.
func (k *socket) writeFrame(op ws.OpCode, payload []byte) error {
	var head bytes.Buffer
	if err := ws.WriteHeader(&head, ws.Header{Fin: true, OpCode: op, Length: int64(len(payload))}); err != nil {
		return err //nolint:wrapcheck // a buffer takes everything
	}
	if k.gone {
		return errSocketClosed
	}
	k.gone = op == ws.OpClose
	return k.w.Data(head.Bytes(), payload) //nolint:wrapcheck // the caller only wants to know that there is one
}

// bye writes a close frame, after which nothing more is written, and ends the socket after a while.
func (k *socket) bye(code ws.StatusCode, reason string) {
	var body []byte
	if code != 0 && !code.IsNotUsed() && code != ws.StatusNoStatusRcvd {
		body = ws.NewCloseFrameBody(code, reason)
	}
	if k.frame(ws.OpClose, body) == nil {
		time.AfterFunc(byeTime, func() { _ = k.body.Close() })
	}
}

// relay writes what the service sends as frames, until it ends the socket.
func (k *socket) relay(body mesh.Body) {
	for {
		p, err := body.Next()
		switch {
		case errors.Is(err, io.EOF):
			k.bye(closeOf(body.Trailer()))
			return
		case err != nil:
			k.bye(ws.StatusInternalServerError, "")
			return
		}
		op := ws.OpBinary
		if p.Kind == mesh.KindText {
			op = ws.OpText
		}
		if k.frame(op, p.Data) != nil {
			return
		}
	}
}

// closeOf reads how the service ended its socket; 1000 if it doesn't say.
func closeOf(trailer mesh.Header) (ws.StatusCode, string) {
	n, err := strconv.ParseUint(trailer.Get(closeCode), 10, 16)
	reason := trailer.Get(closeReason)
	code := ws.StatusCode(n)
	if err != nil || ws.CheckCloseFrameData(code, reason) != nil || len(reason) > 123 {
		return ws.StatusNormalClosure, ""
	}
	return code, reason
}
