package edge

import (
	"errors"
	"strings"
)

var (
	errTarget     = errors.New("it is neither a path nor a URL")
	errQueryBytes = errors.New("query holds a character that must be percent-encoded")
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

func unreserved(c byte) bool {
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
		c == '_' || c == '~'
}
