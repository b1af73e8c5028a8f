package http1

import (
	"bytes"
	"encoding/binary"
	"errors"
	"unsafe"

	"millrace/node"
)

// MaxFields bounds the number of header fields in a message.
const MaxFields = 256

// Errors of the parser. They name a rule, never a byte of the message.
var (
	ErrFieldLine  = errors.New("header field line breaks RFC 9112 section 5")
	ErrFieldCount = errors.New("more than 256 header fields")
	errNoEnd      = errors.New("message head doesn't end")
)

// typicalFields bounds the capacity allocated in advance, since a body may look like many lines.
const typicalFields = 48

var crlf, newline = []byte("\r\n"), []byte("\n")

// ParseFields parses the field lines in block up to and including the empty line, strictly by RFC 9112 §5: CRLF line
// ends, token names, no space before the colon, no folding, no control characters. The strings alias block, which must
// not change afterwards. It returns what follows the empty line.
func ParseFields(block []byte) (node.Header, []byte, error) {
	lines := bytes.Count(block[:min(len(block), 8<<10)], newline)
	return AppendFields(make(node.Header, 0, min(lines, typicalFields)), block)
}

// AppendFields is ParseFields that appends to h, which must be empty, to use its capacity.
func AppendFields(h node.Header, block []byte) (node.Header, []byte, error) {
	for {
		eol := bytes.IndexByte(block, '\n')
		if eol < 1 || block[eol-1] != '\r' {
			return nil, nil, errNoEnd
		}
		line := block[:eol-1]
		block = block[eol+1:]
		if len(line) == 0 {
			return h, block, nil
		}
		if len(h) == MaxFields {
			return nil, nil, ErrFieldCount
		}
		f, ok := parseField(line)
		if !ok {
			return nil, nil, ErrFieldLine
		}
		h = append(h, f)
	}
}

func parseField(line []byte) (node.Field, bool) {
	colon := bytes.IndexByte(line, ':')
	if colon < 1 {
		return node.Field{}, false
	}
	for _, c := range line[:colon] {
		if byteClass[c]&isToken == 0 {
			return node.Field{}, false
		}
	}
	value := trimSpace(line[colon+1:])
	if !validValue(value) {
		return node.Field{}, false
	}
	return node.Field{Name: UnsafeString(line[:colon]), Value: UnsafeString(value)}, true
}

// trimSpace removes the optional white space around a value (RFC 9110 §5.6.3).
func trimSpace(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// validValue reports whether every byte may stand in a field value. It checks eight bytes at once, since it sees most
// bytes of most messages. A word with DEL or a byte below space, such as a tab, is checked byte by byte.
func validValue(b []byte) bool {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	for len(b) >= 8 {
		x := binary.LittleEndian.Uint64(b)
		del := x ^ 0x7f*ones
		if ((x-0x20*ones)&^x|(del-ones)&^del)&high != 0 && !validBytes(b[:8]) {
			return false
		}
		b = b[8:]
	}
	return validBytes(b)
}

func validBytes(b []byte) bool {
	for _, c := range b {
		if byteClass[c]&isValue == 0 {
			return false
		}
	}
	return true
}

// ValidField reports whether a field can be written as one line and parsed back unchanged.
func ValidField(f node.Field) bool {
	if f.Name == "" {
		return false
	}
	for i := range len(f.Name) {
		if byteClass[f.Name[i]]&isToken == 0 {
			return false
		}
	}
	return validValue(unsafe.Slice(unsafe.StringData(f.Value), len(f.Value)))
}

// ValidMethod reports whether s is a syntactically valid method: a token (RFC 9110 §9.1) of at most 32 bytes.
func ValidMethod(s string) bool { return len(s) <= 32 && ValidField(node.Field{Name: s}) }

// ValidTarget reports whether s is a valid origin-form target: it begins with / and has only visible ASCII.
func ValidTarget(s string) bool {
	if s == "" || s[0] != '/' {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

const (
	isToken = 1 << iota // RFC 9110 §5.6.2
	isValue             // RFC 9110 §5.5: visible, obs-text, space, tab
)

// byteClass holds the character classes of each byte.
var byteClass = func() (t [256]uint8) {
	for c := range 256 {
		if c == '\t' || (c >= ' ' && c != 0x7f) {
			t[c] |= isValue
		}
		if c > ' ' && c < 0x7f && bytes.IndexByte([]byte(`"(),/:;<=>?@[\]{}`), byte(c)) < 0 {
			t[c] |= isToken
		}
	}
	return t
}()

// UnsafeString returns b as a string without a copy. b must not change afterwards.
func UnsafeString(b []byte) string {
	return unsafe.String(unsafe.SliceData(b), len(b))
}

// IsToken reports whether a byte may stand in a token (RFC 9110 §5.6.2).
func IsToken(c byte) bool { return byteClass[c]&isToken != 0 }
