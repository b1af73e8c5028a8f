package edge

import (
	"errors"
	"strings"
)

var (
	errTarget     = errors.New("request target is malformed")
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
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' || c == '~'
}

// validHost tells whether s is a host, with or without port, as RFC 3986 §3.2.2 writes it; userinfo isn't.
func validHost(s string) bool {
	host := s
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasSuffix(s, "]") {
		var port string
		host, port = s[:i], s[i+1:]
		if strings.Trim(port, "0123456789") != "" || len(port) > 5 {
			return false
		}
	}
	if strings.HasPrefix(host, "[") {
		return strings.HasSuffix(host, "]") && strings.Trim(host, "[]0123456789abcdefABCDEF:.") == ""
	}
	for i := range len(host) {
		if c := host[i]; !unreserved(c) && strings.IndexByte("!$&'()*+;=%", c) < 0 {
			return false
		}
	}
	return true
}
