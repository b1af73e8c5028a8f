package mesh

import (
	"bytes"
	"errors"
	"strconv"
	"time"

	"millrace/node"
	"millrace/node/http1"
)

// crlf ends a line.
var crlf = []byte("\r\n")

// Errors of a payload. The texts name rules, never bytes of the message.
var (
	errRequestLine   = errors.New("request line is not METHOD /target HTTP/1.1")
	errStatusLine    = errors.New("status line is not HTTP/1.1 and a status from 200 to 599")
	errHost          = errors.New("not exactly one Host")
	errLength        = errors.New("Content-Length differs from the body")
	errTransfer      = errors.New("Transfer-Encoding on a mesh message")
	errBodyless      = errors.New("body on a 204 or 304")
	errWireVersion   = errors.New("unknown Millrace-Wire version")
	errFieldContents = errors.New("header field, target or method holds a character that can't be sent")
	// ErrBodyTooLarge means a body over MaxBody.
	ErrBodyTooLarge = errors.New("body is larger than one message carries")
)

// meshFields is how many fields appendRequest adds: Host, Content-Length, Expect and six Millrace-* fields.
const meshFields = 9

// appendRequest appends the payload of a request: an HTTP/1.1 message with the mesh's own Millrace-* fields. timeout is
// the remaining time, sent in milliseconds.
func appendRequest(b []byte, r *Request, timeout time.Duration, nonce string) ([]byte, error) {
	if err := r.checkHead(); err != nil {
		return b, err
	}
	b = append(append(append(append(b, r.Method...), ' '), r.Target...), " HTTP/1.1\r\n"...)
	b = http1.AppendField(b, "Host", r.Host)
	b, err := appendFields(b, r.Header)
	if err != nil {
		return b, err
	}
	b = append(b, "Millrace-Wire: 1\r\nMillrace-Deadline: "...)
	b = strconv.AppendInt(b, max(timeout.Milliseconds(), 1), 10)
	b = append(b, "\r\nMillrace-Nonce: "...)
	b = append(append(b, nonce...), crlf...)
	if r.Route != "" {
		b = http1.AppendField(b, "Millrace-Route", r.Route)
	}
	if r.Again {
		b = append(b, "Millrace-Again: 1\r\n"...)
	}
	if r.Upgrade != "" {
		b = http1.AppendField(b, "Millrace-Upgrade", string(r.Upgrade))
	}
	if r.Expect && r.Stream != nil {
		b = append(b, "Expect: 100-continue\r\n"...)
	}
	switch {
	case r.Stream != nil && r.Length >= 0 && r.Upgrade == "":
		b = http1.AppendLength(b, r.Length)
	case len(r.Body) > 0:
		b = http1.AppendLength(b, int64(len(r.Body)))
	}
	return append(append(b, crlf...), r.Body...), nil
}

// checkHead checks that the request fits one message. appendFields checks what its fields hold.
func (r *Request) checkHead() error {
	switch {
	case !http1.ValidMethod(r.Method) || !http1.ValidTarget(r.Target) || !http1.ValidField(Field{
		Name:  "Host",
		Value: r.Host,
	}):
		return errFieldContents
	case len(r.Body) > MaxBody:
		return ErrBodyTooLarge
	case len(r.Header)+meshFields > http1.MaxFields:
		return http1.ErrFieldCount
	}
	return nil
}

// appendResponse appends the payload of a reply. Content-Length is the body's length, except for HEAD, 204 and 304.
func appendResponse(b []byte, r *Response, method string) ([]byte, error) {
	if err := r.checkHead(); err != nil {
		return b, err
	}
	b, err := appendStatusAndFields(b, r)
	if err != nil {
		return b, err
	}
	switch {
	case Bodyless(method, r.Status):
		if n := r.Header.Get("Content-Length"); n != "" && r.Status != 204 {
			b = http1.AppendField(b, "Content-Length", n)
		}
		return append(b, crlf...), nil
	default:
		b = http1.AppendLength(b, int64(len(r.Body)))
		return append(append(b, crlf...), r.Body...), nil
	}
}

// checkHead checks that the response fits one message. appendFields checks what its fields hold.
func (r *Response) checkHead() error {
	switch {
	case r.Status < 200 || r.Status > 599:
		return errStatusLine
	case (r.Status == 204 || r.Status == 304) && len(r.Body) > 0:
		return errBodyless
	case len(r.Body) > MaxBody:
		return ErrBodyTooLarge
	}
	return nil
}

// appendHead appends the payload of a reply whose body follows as a stream, of an interim response, or of a socket's
// 101.
func appendHead(b []byte, r *Response) ([]byte, error) {
	if r.Status < 101 || r.Status > 599 {
		return b, errStatusLine
	}
	b, err := appendStatusAndFields(b, r)
	if err != nil {
		return b, err
	}
	if r.Stream != nil && r.Length >= 0 && r.Status != 101 {
		b = http1.AppendLength(b, r.Length)
	}
	return append(b, crlf...), nil
}

func appendStatusAndFields(b []byte, r *Response) ([]byte, error) {
	b = append(strconv.AppendInt(append(b, "HTTP/1.1 "...), int64(r.Status), 10), ' ')
	b = append(append(b, validReason(r.Reason)...), crlf...)
	return appendFields(b, r.Header)
}

// appendFields appends the fields, except those that frame the message. The caller writes those.
func appendFields(b []byte, h Header) ([]byte, error) {
	for _, f := range h {
		if !http1.ValidField(f) {
			return b, errFieldContents
		}
		if isFraming(f.Name) {
			continue
		}
		b = http1.AppendField(b, f.Name, f.Value)
	}
	return b, nil
}

// isFraming reports whether the field frames a message or controls when its body is sent. It looks at the first letter
// before it compares. name must not be empty.
func isFraming(name string) bool {
	switch name[0] | 0x20 {
	case 'c':
		return node.SameName(name, "Content-Length")
	case 'e':
		return node.SameName(name, "Expect")
	case 'h':
		return node.SameName(name, "Host")
	case 't':
		return node.SameName(name, "Transfer-Encoding")
	}
	return false
}

// decodeRequest parses a request's payload. Strings and body alias it.
func decodeRequest(payload []byte, now time.Time) (*Request, error) {
	r, err := decodeRequestHead(payload, now)
	if err == nil && r.Length >= 0 && r.Length != int64(len(r.Body)) {
		err = errLength
	}
	if err != nil {
		return nil, err
	}
	r.Length = 0
	return r, nil
}

// decodeRequestHead parses the payload of a request that may announce more body than it holds.
func decodeRequestHead(payload []byte, now time.Time) (*Request, error) {
	line, rest, ok := bytes.Cut(payload, crlf)
	if !ok {
		return nil, errRequestLine
	}
	method, target, okMethod := bytes.Cut(line, []byte(" "))
	target, okVersion := bytes.CutSuffix(target, []byte(" HTTP/1.1"))
	if !okMethod || !okVersion || !http1.ValidMethod(http1.UnsafeString(method)) ||
		!http1.ValidTarget(http1.UnsafeString(target)) {
		return nil, errRequestLine
	}
	h, body, err := http1.ParseFields(rest)
	if err != nil {
		return nil, err
	}
	r := &Request{
		Method: http1.UnsafeString(method), Target: http1.UnsafeString(target), Body: body, Length: -1,
		Deadline: now.Add(time.Minute),
	}
	if err := r.extractControl(h, now); err != nil {
		return nil, err
	}
	return r, nil
}

// extractControl moves the fields that frame and control the message out of h into r. The others become r.Header.
func (r *Request) extractControl(h Header, now time.Time) error {
	hosts := 0
	kept := h[:0]
	for _, f := range h {
		switch {
		case node.SameName(f.Name, "Host"):
			r.Host = f.Value
			hosts++
		case node.SameName(f.Name, "Transfer-Encoding"):
			return errTransfer
		case node.SameName(f.Name, "Content-Length"):
			if r.Length >= 0 || !isNumber(f.Value) {
				return errLength
			}
			r.Length, _ = strconv.ParseInt(f.Value, 10, 64) // at most 18 digits
		case node.SameName(f.Name, "Expect"):
			r.Expect = node.SameName(f.Value, "100-continue")
		case node.SameName(f.Name, "Millrace-Upgrade"):
			r.Upgrade = Upgrade(f.Value)
		case node.SameName(f.Name, "Millrace-Wire"):
			if f.Value != "1" {
				return errWireVersion
			}
		case node.SameName(f.Name, "Millrace-Deadline"):
			if ms, err := strconv.ParseUint(f.Value, 10, 31); err == nil {
				r.Deadline = now.Add(time.Duration(ms) * time.Millisecond)
			}
		case node.SameName(f.Name, "Millrace-Nonce"):
			r.Nonce = f.Value
		case node.SameName(f.Name, "Millrace-Again"):
			r.Again = f.Value == "1"
		case node.SameName(f.Name, "Millrace-Route"):
			r.Route = f.Value
		case node.MeshOwn(f.Name):
		default:
			kept = append(kept, f)
		}
	}
	r.Header = kept
	if hosts != 1 {
		return errHost
	}
	return nil
}

// decodeResponse parses the payload of a reply to a request with that method. Strings and body alias it. Hop-by-hop and
// Millrace-* fields are dropped. Content-Length is too, unless the response has no body: the receiver writes it anew.
func decodeResponse(payload []byte, method string) (*Response, error) {
	r, err := decodeResponseHead(payload)
	if err != nil {
		return nil, err
	}
	if r.Status < 200 {
		return nil, errStatusLine
	}
	if err := r.checkFraming(method); err != nil {
		return nil, err
	}
	r.Header.DropHopByHop()
	return r, nil
}

// decodeStreamed parses the payload of a reply whose body follows as a stream. Body is the beginning that came with the
// head, if any.
func decodeStreamed(payload []byte, socket bool) (*Response, error) {
	r, err := decodeResponseHead(payload)
	if err != nil {
		return nil, err
	}
	lengths := r.Header.Values("Content-Length")
	switch {
	case r.Status < 200 && (r.Status != 101 || !socket):
		return nil, errStatusLine
	case r.Header.Has("Transfer-Encoding"):
		return nil, errTransfer
	case len(r.Body) > MaxBody:
		return nil, ErrBodyTooLarge
	case len(lengths) > 1 || (len(lengths) == 1 && !isNumber(lengths[0])):
		return nil, errLength
	}
	r.Length = -1
	if len(lengths) == 1 && r.Status != 101 {
		r.Length, _ = strconv.ParseInt(lengths[0], 10, 64) // at most 18 digits
		r.Header.Del("Content-Length")
	}
	if r.Length >= 0 && int64(len(r.Body)) > r.Length {
		return nil, errLength
	}
	r.Header.DropHopByHop()
	return r, nil
}

func decodeResponseHead(payload []byte) (*Response, error) {
	line, rest, ok := bytes.Cut(payload, crlf)
	if !ok {
		return nil, errStatusLine
	}
	status, why, err := parseStatusLine(line)
	if err != nil {
		return nil, err
	}
	h, body, err := http1.ParseFields(rest)
	if err != nil {
		return nil, err
	}
	return &Response{Status: status, Reason: why, Header: h, Body: body}, nil
}

// maxReason bounds a reason phrase in bytes.
const maxReason = 128

// validReason returns a reason phrase that may be forwarded, else "". Programs don't need it (RFC 9112 §4).
func validReason(s string) string {
	if len(s) > maxReason || !http1.ValidField(Field{Name: "R", Value: s}) {
		return ""
	}
	return s
}

// parseStatusLine parses "HTTP/1.1 SP 3DIGIT [SP reason]" (RFC 9112 §4).
func parseStatusLine(line []byte) (status int, why string, err error) {
	digits, ok := bytes.CutPrefix(line, []byte("HTTP/1.1 "))
	if !ok || len(digits) < 3 || (len(digits) > 3 && digits[3] != ' ') {
		return 0, "", errStatusLine
	}
	n, err := strconv.ParseUint(http1.UnsafeString(digits[:3]), 10, 16)
	if err != nil || n < 101 || n > 599 || !http1.ValidField(Field{Name: "R", Value: http1.UnsafeString(digits[3:])}) {
		return 0, "", errStatusLine
	}
	if len(digits) > 4 {
		why = validReason(http1.UnsafeString(digits[4:]))
	}
	return int(n), why, nil
}

// checkFraming enforces PROTOCOL.md's rules on length and body, and clears the body where HTTP has none.
func (r *Response) checkFraming(method string) error {
	if r.Header.Has("Transfer-Encoding") {
		return errTransfer
	}
	lengths := r.Header.Values("Content-Length")
	head, bodyless := method == "HEAD", r.Status == 204 || r.Status == 304
	switch {
	case len(lengths) > 1:
		return errLength
	case len(r.Body) > MaxBody:
		return ErrBodyTooLarge
	case bodyless && len(r.Body) > 0:
		return errBodyless
	case head && len(lengths) == 0 && len(r.Body) > 0: // the member treats HEAD as GET
		r.Header.Set("Content-Length", strconv.Itoa(len(r.Body)))
	case !head && !bodyless && len(lengths) == 1:
		if !lengthIs(lengths[0], len(r.Body)) {
			return errLength
		}
		r.Header.Del("Content-Length")
	case len(lengths) == 1 && !isNumber(lengths[0]):
		return errLength
	}
	if head {
		r.Body = nil
	}
	return nil
}

func lengthIs(s string, n int) bool {
	v, err := strconv.ParseUint(s, 10, 63)
	return isNumber(s) && err == nil && v == uint64(n) //nolint:gosec // G115: a length is never negative
}

func isNumber(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != "" && len(s) <= 18
}
