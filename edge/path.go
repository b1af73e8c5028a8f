package edge

import (
	"errors"
	"strings"
	"unicode/utf8"
)

var (
	errTarget      = errors.New("request target is malformed")
	errPathEscape  = errors.New("path holds a malformed or refused percent-encoding")
	errPathBytes   = errors.New("path holds a character that must be percent-encoded")
	errDotSegments = errors.New("path holds . or .. segments")
	errQueryBytes  = errors.New("query holds a character that must be percent-encoded")
)

// splitTarget takes a request target apart (RFC 9112 §3.2). authority is set for absolute-form only; query keeps its
// question mark, since "/a?" and "/a" are two targets.
func splitTarget(target string) (authority, path, query string, err error) {
	if !strings.HasPrefix(target, "/") {
		scheme, rest, ok := strings.Cut(target, "://")
		if !ok || (!strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https")) {
			return "", "", "", errTarget
		}
		end := strings.IndexAny(rest, "/?")
		if end < 0 {
			end = len(rest)
		}
		if authority, target = rest[:end], rest[end:]; authority == "" {
			return "", "", "", errTarget
		}
		if !strings.HasPrefix(target, "/") {
			target = "/" + target
		}
	}
	path = target
	if i := strings.IndexByte(target, '?'); i >= 0 {
		path, query = target[:i], target[i:]
	}
	for i := range len(query) {
		if c := query[i]; c <= ' ' || c >= 0x7f || c == '#' {
			return "", "", "", errQueryBytes
		}
	}
	return authority, path, query, nil
}

// canonicalPath gives the one spelling of a path that routing, policies and forwarding use: percent-encodings of
// unreserved characters are decoded, others are written in upper case (RFC 3986 §6.2.2), and characters that browsers
// send raw though the grammar forbids it are encoded. What could mean two things is refused: encoded slash (slash tells
// that there was one and it was kept), backslash, control characters, dot segments, invalid UTF-8.
//
// The result is idempotent: canonicalPath(canonicalPath(p)) == canonicalPath(p).
func canonicalPath(path string) (canonical string, slash bool, err error) {
	if plainPath(path) {
		return path, false, checkSegments(path)
	}
	var b strings.Builder
	b.Grow(len(path) + 16)
	decoded := make([]byte, 0, len(path)) // what the path means, to check its UTF-8
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
		return "", false, errPathEscape
	}
	canonical = b.String()
	return canonical, slash, checkSegments(canonical)
}

// writeByte writes one character of the path in its canonical spelling.
func writeByte(b *strings.Builder, c byte, escaped bool) error {
	switch {
	case escaped && (c < ' ' || c == 0x7f || c == '\\'):
		return errPathEscape
	case !escaped && strings.IndexByte(rawRefused, c) >= 0, !escaped && (c <= ' ' || c >= 0x7f):
		return errPathBytes
	case unreserved(c), !escaped && strings.IndexByte(pathRaw, c) >= 0:
		b.WriteByte(c)
	default:
		const hex = "0123456789ABCDEF"
		b.WriteByte('%')
		b.WriteByte(hex[c>>4])
		b.WriteByte(hex[c&15])
	}
	return nil
}

const (
	pathRaw    = "/!$&'()*+,;=:@" // pchar beyond unreserved, and the separator (RFC 3986 §3.3)
	rawRefused = "\"<>\\`#"       // no browser sends these raw
)

// plainPath tells whether every character already is as canonicalPath would write it: the usual case costs one pass.
func plainPath(path string) bool {
	for i := range len(path) {
		if c := path[i]; !unreserved(c) && strings.IndexByte(pathRaw, c) < 0 {
			return false
		}
	}
	return true
}

func unreserved(c byte) bool {
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' || c == '~'
}

// unescape decodes the %XX at the beginning of s.
func unescape(s string) (byte, error) {
	if len(s) < 3 {
		return 0, errPathEscape
	}
	hi, ok1 := fromHex(s[1])
	lo, ok2 := fromHex(s[2])
	if !ok1 || !ok2 {
		return 0, errPathEscape
	}
	return hi<<4 | lo, nil
}

func fromHex(c byte) (byte, bool) {
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

// checkSegments refuses dot segments, also those that a target might see behind a path parameter ("..;") or between
// encoded slashes. The path is canonical, so encodings are in upper case and dots are never encoded.
func checkSegments(path string) error {
	if !strings.Contains(path, "/.") && !strings.Contains(path, "%2F.") {
		return nil
	}
	for seg := range strings.SplitSeq(strings.ReplaceAll(path, "%2F", "/"), "/") {
		name, _, _ := strings.Cut(strings.ReplaceAll(seg, "%3B", ";"), ";")
		if name == "." || name == ".." {
			return errDotSegments
		}
	}
	return nil
}
