package node

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The reasons why a path has no canonical form.
var (
	ErrPathEscape  = errors.New("path holds a malformed or refused percent-encoding")
	ErrPathBytes   = errors.New("path holds a character that must be percent-encoded")
	ErrDotSegments = errors.New("path holds . or .. segments")
	ErrFragment    = errors.New("a # begins a fragment, which no request has: write %23 for the character itself")
)

// CanonicalPath returns the single spelling of a request's path that routing, policies and forwarding use.
// Percent-encodings of unreserved characters are decoded, others get upper case (RFC 3986 §6.2.2), and characters that
// browsers send raw against the grammar are encoded. Ambiguous paths are refused: backslashes, control characters, dot
// segments, invalid UTF-8. An encoded slash is kept, and slash reports that there was one.
//
// The result is idempotent: CanonicalPath(CanonicalPath(p)) == CanonicalPath(p).
func CanonicalPath(path string) (canonical string, slash bool, err error) {
	if plainPath(path) {
		return path, false, checkSegments(path)
	}
	var b strings.Builder
	b.Grow(len(path) + 16)
	decoded := make([]byte, 0, len(path)) // the decoded path, to check its UTF-8
	for i := 0; i < len(path); i++ {
		c := path[i]
		escaped := c == '%'
		if escaped {
			if c, err = unescape(path[i:]); err != nil {
				return "", false, err
			}
			i += 2
			slash = slash || c == '/'
		}
		if err := writeByte(&b, c, escaped); err != nil {
			return "", false, err
		}
		decoded = append(decoded, c)
	}
	if !utf8.Valid(decoded) {
		return "", false, ErrPathEscape
	}
	canonical = b.String()
	return canonical, slash, checkSegments(canonical)
}

// writeByte appends one character of the path in its canonical spelling.
func writeByte(b *strings.Builder, c byte, escaped bool) error {
	switch {
	case escaped && (c < ' ' || c == 0x7f || c == '\\'):
		return ErrPathEscape
	case !escaped && strings.IndexByte(rawRefused, c) >= 0, !escaped && (c <= ' ' || c >= 0x7f):
		return ErrPathBytes
	case Unreserved(c), !escaped && strings.IndexByte(pathRaw, c) >= 0:
		b.WriteByte(c)
	default:
		appendEscape(b, c)
	}
	return nil
}

func appendEscape(b *strings.Builder, c byte) {
	const hex = "0123456789ABCDEF"
	b.WriteByte('%')
	b.WriteByte(hex[c>>4])
	b.WriteByte(hex[c&15])
}

const (
	pathRaw    = "/!$&'()*+,;=:@" // pchar beyond unreserved, and the separator (RFC 3986 §3.3)
	rawRefused = "\"<>\\`#"       // no browser sends these raw
)

// plainPath reports whether the path is canonical already, which is the usual case, in one pass.
func plainPath(path string) bool {
	for i := range len(path) {
		if c := path[i]; !Unreserved(c) && strings.IndexByte(pathRaw, c) < 0 {
			return false
		}
	}
	return true
}

// Unreserved reports whether a character means the same in every part of a URI, encoded or not (RFC 3986 §2.3).
func Unreserved(c byte) bool {
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		c == '-' || c == '.' || c == '_' || c == '~'
}

// unescape decodes the %XX at the start of s.
func unescape(s string) (byte, error) {
	if len(s) < 3 {
		return 0, ErrPathEscape
	}
	hi, ok1 := HexDigit(s[1])
	lo, ok2 := HexDigit(s[2])
	if !ok1 || !ok2 {
		return 0, ErrPathEscape
	}
	return hi<<4 | lo, nil
}

// HexDigit returns the value of a hexadecimal digit; ok is false for anything else.
func HexDigit(c byte) (value byte, ok bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// checkSegments refuses dot segments, including those that a target might see before a path parameter ("..;") or
// between encoded slashes. The path is canonical: encodings have upper case and dots aren't encoded.
func checkSegments(path string) error {
	if !strings.Contains(path, "/.") && !strings.Contains(path, "%2F.") {
		return nil
	}
	for seg := range strings.SplitSeq(strings.ReplaceAll(path, "%2F", "/"), "/") {
		name, _, _ := strings.Cut(strings.ReplaceAll(seg, "%3B", ";"), ";")
		if name == "." || name == ".." {
			return ErrDotSegments
		}
	}
	return nil
}

// readableChars are ASCII characters that people write in paths, but requests have encoded.
const readableChars = " \"<>[]^`|"

// EncodeWritten encodes characters that people write in paths: /café, /a b and /a[1]. Existing encodings are kept. It
// refuses characters with another meaning in a URL, and those that no request may have.
func EncodeWritten(s string) (string, error) {
	if !utf8.ValidString(s) {
		return "", errors.New("it isn't UTF-8 text")
	}
	var b strings.Builder
	for i, c := range s {
		switch {
		case c == '%':
			if _, err := unescape(s[i:]); err != nil {
				return "", errors.New("a % begins an encoding such as %20: write %25 for the character itself")
			}
			b.WriteByte('%')
		case c == '#':
			return "", ErrFragment
		case c < ' ' || c == 0x7f || c == '\\':
			return "", fmt.Errorf("character %q can't be in a path", c)
		case c >= 0x80 || strings.ContainsRune(readableChars, c):
			for _, octet := range []byte(string(c)) {
				appendEscape(&b, octet)
			}
		default:
			b.WriteRune(c)
		}
	}
	return b.String(), nil
}

// asWritten decodes a canonical segment for people, as far as EncodeWritten encodes it again.
func asWritten(segment string) string {
	plain, err := url.PathUnescape(segment)
	if err != nil || strings.IndexByte(segment, '%') < 0 { // canonical segments have no broken encodings
		return segment
	}
	var b strings.Builder
	for rest := segment; rest != ""; {
		c, n := utf8.DecodeRuneInString(plain)
		plain = plain[n:]
		octets := n
		if rest[0] == '%' {
			octets *= 3
		}
		if octets > 1 && c != utf8.RuneError &&
			((c >= 0x80 && unicode.IsPrint(c)) || strings.ContainsRune(readableChars, c)) {
			b.WriteRune(c)
		} else {
			b.WriteString(rest[:octets])
		}
		rest = rest[octets:]
	}
	return b.String()
}
