package cache

import (
	"strings"

	"millrace/mesh"
	"millrace/node"
)

// appendRequestPart appends a part of the request to a key: everything the origin sees of it. Origins disagree about
// which line counts if a field has two, and which cookie if a name occurs twice. So the key holds each line, and the
// whole Cookie field if the cookie can be read in more than one way.
func appendRequestPart(b []byte, part node.RequestPart, h mesh.Header) []byte {
	b = append(append(b, '\x01'), part.Name...)
	if !part.Cookie {
		return appendLines(b, '=', part.Name, h)
	}
	value, has, plain := plainCookie(part.Name, h)
	switch {
	case !plain:
		return appendLines(b, '\x03', "Cookie", h) // a plain value follows '=', so the two can't be equal
	case has:
		return append(append(b, '='), value...)
	}
	return b
}

// appendLines appends the lines of a field, the first after sep.
func appendLines(b []byte, sep byte, name string, h mesh.Header) []byte {
	for i := range h {
		if node.SameName(h[i].Name, name) {
			b = append(append(b, sep), h[i].Value...)
			sep = '\x03'
		}
	}
	return b
}

// plainCookie returns the value of a cookie. plain is false if an origin might read another value: the name occurs
// twice, in another case, after a quote, or without a value.
func plainCookie(name string, h mesh.Header) (value string, has, plain bool) {
	for i := range h {
		if !node.SameName(h[i].Name, "Cookie") {
			continue
		}
		line := h[i].Value
		for at := 0; ; {
			n := cookieName(line[at:], name)
			if n < 0 {
				break
			}
			at += n
			rest := line[at+len(name):]
			if has || line[at:at+len(name)] != name || !strings.HasPrefix(rest, "=") || !beginsPair(line[:at]) {
				return "", false, false
			}
			value, _, _ = strings.Cut(rest[1:], ";")
			has = true
			at += len(name)
		}
	}
	return value, has, true
}

// cookieName returns the index at which a name stands by itself in a Cookie line, in any case; -1 if nowhere.
func cookieName(line, name string) int {
	for i := 0; i+len(name) <= len(line); i++ {
		end := i + len(name)
		if node.SameName(line[i:end], name) && (i == 0 || strings.IndexByte(" \t;,\"", line[i-1]) >= 0) &&
			(end == len(line) || strings.IndexByte(" \t;,\"=", line[end]) >= 0) {
			return i
		}
	}
	return -1
}

// beginsPair reports whether every reader takes the end of this part of a Cookie line for the beginning of a pair.
func beginsPair(before string) bool {
	if strings.IndexByte(before, '"') >= 0 {
		return false
	}
	before = strings.TrimRight(before, " ")
	return before == "" || strings.HasSuffix(before, ";")
}
