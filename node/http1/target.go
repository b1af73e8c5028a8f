package http1

import (
	"errors"
	"strings"
)

var (
	errTarget     = errors.New("it is neither a path nor a URL")
	errQueryBytes = errors.New("query holds a character that must be percent-encoded")
)

// SplitTarget takes a request target apart (RFC 9112 §3.2). authority is set for absolute-form only; query keeps its
// question mark, since "/a?" and "/a" are two targets.
func SplitTarget(target string) (authority, path, query string, err error) {
	path = target
	if !strings.HasPrefix(target, "/") {
		var ok bool
		if _, authority, path, ok = CutOrigin(target, "/?"); !ok {
			return "", "", "", errTarget
		}
	}
	path, query = CutQuery(path)
	for i := range len(query) {
		if c := query[i]; c <= ' ' || c >= 0x7f || c == '#' {
			return "", "", "", errQueryBytes
		}
	}
	return authority, path, query, nil
}

// CutOrigin takes scheme and authority off a URL of http or https. What follows, from one of the characters of ends on,
// begins with a slash. Not ok means that it isn't such a URL.
func CutOrigin(url, ends string) (scheme, authority, rest string, ok bool) {
	scheme, rest, ok = strings.Cut(url, "://")
	end := strings.IndexAny(rest, ends)
	if end < 0 {
		end = len(rest)
	}
	if !ok || end == 0 || (!strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https")) {
		return "", "", "", false
	}
	if authority, rest = rest[:end], rest[end:]; !strings.HasPrefix(rest, "/") {
		rest = "/" + rest
	}
	return scheme, authority, rest, true
}

// CutQuery parts path and query, which keeps its question mark.
func CutQuery(target string) (path, query string) {
	if i := strings.IndexByte(target, '?'); i >= 0 {
		return target[:i], target[i:]
	}
	return target, ""
}
