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

// Trailer fields with the close code and reason of a socket of messages (RFC 6455 §7.4), in either direction.
const (
	closeCode   = "Close-Code"
	closeReason = "Close-Reason"
)

// messages is a mesh.Body of whole messages, read from the frames of a client's WebSocket. It is for services, which
// get no frames. It answers pings. A close frame ends the body, with its code and reason as trailer fields.
type messages struct {
	raw     mesh.Body
	in      io.Reader
	head    frameHead     // reads from in
	opened  chan struct{} // closed by open; Next waits for it
	closed  chan struct{} // closed by Close; ends that wait
	once    sync.Once
	k       *socket   // set before opened is closed
	partial []byte    // the fragments so far of a message that isn't complete
	kind    ws.OpCode // of that message; 0 if there is none
	trailer mesh.Header
}

func newMessages(raw mesh.Body) *messages {
	in := mesh.NewReader(raw)
	return &messages{
		raw: raw, in: in, head: frameHead{in: in}, opened: make(chan struct{}),
		closed: make(chan struct{}),
	}
}

// frameHead is the reader for ws.ReadHeader. It keeps the first two bytes of the head, which ws.Header doesn't have.
type frameHead struct {
	in    io.Reader
	first [2]byte
	n     int // bytes read so far
}

func (h *frameHead) Read(p []byte) (int, error) {
	n, err := h.in.Read(p)
	if h.n < len(h.first) {
		copy(h.first[h.n:], p[:n])
	}
	h.n += n
	return n, err
}

// minimal reports whether the payload's length is encoded in as few bytes as possible (RFC 6455 §5.2).
func (h *frameHead) minimal(length int64) bool {
	switch h.first[1] & 0x7f {
	case 126:
		return length > 125
	case 127:
		return length > 0xffff
	}
	return true
}

// open lets Next start to read. Call it when the client has its 101. Pongs and close frames are written to k.
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
			m.k.sendClose(ws.StatusCode(status), "")
			return mesh.Piece{}, errSocketClosed
		}
		if err != nil || p.Data != nil {
			return p, err
		}
	}
}

// violation is a protocol error of the client, as the close code with which its socket ends.
type violation ws.StatusCode

// Error names the close code.
func (v violation) Error() string { return "close code " + strconv.Itoa(int(v)) }

// frame reads one frame. It returns a message if the frame completes one, else a Piece without data.
func (m *messages) frame() (mesh.Piece, error) {
	m.head.n = 0
	h, err := ws.ReadHeader(&m.head)
	switch {
	case errors.Is(err, ws.ErrHeaderLengthMSB), errors.Is(err, ws.ErrHeaderLengthUnexpected),
		err == nil && !m.head.minimal(h.Length):
		return mesh.Piece{}, violation(ws.StatusProtocolError)
	case err != nil:
		return mesh.Piece{}, connectionEnd(err)
	}
	state := ws.StateServerSide
	if m.kind != 0 {
		state |= ws.StateFragmented
	}
	if err := ws.CheckHeader(h, state); err != nil {
		return mesh.Piece{}, violation(ws.StatusProtocolError)
	}
	if !h.OpCode.IsControl() && h.Length > int64(mesh.MaxMessage-len(m.partial)) {
		return mesh.Piece{}, violation(ws.StatusMessageTooBig)
	}
	payload := make([]byte, h.Length)
	if _, err := io.ReadFull(m.in, payload); err != nil {
		return mesh.Piece{}, connectionEnd(err)
	}
	ws.Cipher(payload, h.Mask, 0)
	if h.OpCode.IsControl() {
		return mesh.Piece{}, m.control(h.OpCode, payload)
	}
	return m.data(h, payload)
}

// connectionEnd turns the end of a connection without a close frame (RFC 6455 §7.1.5) into an error other than io.EOF:
// nothing says that the client has sent all.
func connectionEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errSocketClosed
	}
	return err
}

// data adds a fragment to the current message and returns the message if it is the last fragment.
func (m *messages) data(h ws.Header, payload []byte) (mesh.Piece, error) {
	if h.OpCode != ws.OpContinuation {
		m.kind = h.OpCode
	}
	m.partial = append(m.partial, payload...)
	if !h.Fin {
		return mesh.Piece{}, nil
	}
	p := mesh.Piece{Data: m.partial, Kind: mesh.KindBinary}
	if p.Data == nil {
		p.Data = []byte{}
	}
	if m.kind == ws.OpText {
		p.Kind = mesh.KindText
		if !utf8.Valid(p.Data) {
			return mesh.Piece{}, violation(ws.StatusInvalidFramePayloadData)
		}
	}
	m.partial, m.kind = nil, 0
	return p, nil
}

// control answers a ping with a pong and a close frame with a close frame (RFC 6455 §5.5). After a close frame it
// returns io.EOF.
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
	m.k.sendClose(code, "")
	return io.EOF
}

// printable reports whether a reason may be the value of a header field.
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
	return m.raw.Close()
}

// frame writes one frame to the client.
func (k *socket) frame(op ws.OpCode, payload []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.writeFrame(op, payload)
}

// writeFrame writes one frame. It fails after a close frame. The caller holds mu.
func (k *socket) writeFrame(op ws.OpCode, payload []byte) error {
	var head bytes.Buffer
	if err := ws.WriteHeader(&head, ws.Header{Fin: true, OpCode: op, Length: int64(len(payload))}); err != nil {
		return err
	}
	if k.finished {
		return errSocketClosed
	}
	k.finished = op == ws.OpClose
	return k.w.Data(head.Bytes(), payload)
}

// sendClose writes a close frame, after which nothing more may be written. It ends the socket after closeTimeout.
func (k *socket) sendClose(code ws.StatusCode, reason string) {
	var body []byte
	if code != 0 && !code.IsNotUsed() && code != ws.StatusNoStatusRcvd {
		body = ws.NewCloseFrameBody(code, reason)
	}
	if k.frame(ws.OpClose, body) == nil {
		time.AfterFunc(closeTimeout, func() { _ = k.body.Close() })
	}
}

// relay writes each message of the service as one frame, until the service ends the socket.
func (k *socket) relay(body mesh.Body) {
	for {
		p, err := body.Next()
		switch {
		case errors.Is(err, io.EOF):
			k.sendClose(closeOf(body.Trailer()))
			return
		case err != nil:
			k.sendClose(ws.StatusInternalServerError, "")
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

// closeOf returns the close code and reason in the service's trailer, or 1000 if there are none that are valid.
func closeOf(trailer mesh.Header) (ws.StatusCode, string) {
	n, err := strconv.ParseUint(trailer.Get(closeCode), 10, 16)
	reason := trailer.Get(closeReason)
	code := ws.StatusCode(n)
	if err != nil || ws.CheckCloseFrameData(code, reason) != nil || len(reason) > 123 {
		return ws.StatusNormalClosure, ""
	}
	return code, reason
}
