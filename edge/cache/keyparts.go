package cache

import (
	"strings"

	"millrace/mesh"
	"millrace/node"
)

// appendPart writes a part of the request into a key: all that the origin sees of it. Origins disagree about what
// counts of a field that comes in two lines or of a cookie that comes twice, so each line has its place, and of cookies
// that may be read in more than one way the key has all.
func appendPart(b []byte, part node.RequestPart, h mesh.Header) []byte {
	b = append(append(b, '\x01'), part.Name...)
	if !part.Cookie {
		return appendLines(b, '=', part.Name, h)
	}
	value, has, plain := plainCookie(part.Name, h)
	switch {
	case !plain:
		return appendLines(b, '\x03', "Cookie", h) // no value begins so
	case has:
		return append(append(b, '='), value...)
	}
	return b
}

// appendLines writes the lines of a field, the first behind sep.
func appendLines(b []byte, sep byte, name string, h mesh.Header) []byte {
	for i := range h {
		if node.SameName(h[i].Name, name) {
			b = append(append(b, sep), h[i].Value...)
			sep = '\x03'
		}
	}
	return b
}

// plainCookie gives the value of a cookie. Not plain means that it may have more than one, or another to some origins:
// its name stands there twice, in another case, behind a quote or without a value.
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

// cookieName gives where a name stands in a Cookie line by itself, in any case; -1 if nowhere.
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

// beginsPair reports whether a pair begins behind this part of a Cookie line, to whoever reads it.
func beginsPair(before string) bool {
	if strings.IndexByte(before, '"') >= 0 {
		return false
	}
	before = strings.TrimRight(before, " ")
	return before == "" || strings.HasSuffix(before, ";")
}
