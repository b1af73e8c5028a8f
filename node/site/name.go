package site

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"millrace/node"
)

// CheckName returns the path under which a file is served, from its name relative to the folder with slashes: a
// b/index.html has /a%20b/index.html. The path is in the form of node.CanonicalPath, and there is one for each name.
// Names are taken in Unicode's form NFC, so that a folder has the same paths on every system. The error says, for
// people, why a file of that name can't be published.
func CheckName(name string) (path string, err error) {
	if !utf8.ValidString(name) {
		return "", errors.New("its name isn't UTF-8")
	}
	name = norm.NFC.String(name)
	switch {
	case name == HeadersFile || name == RedirectsFile:
		return "", errors.New("it holds rules, and is never served")
	case len(name)+1 > MaxPath:
		return "", fmt.Errorf("its path has %d bytes, more than %d", len(name)+1, MaxPath)
	}
	depth := 0
	for segment := range strings.SplitSeq(name, "/") {
		if err := checkSegment(segment); err != nil {
			return "", err
		}
		if depth++; depth > MaxDepth {
			return "", fmt.Errorf("it is more than %d folders deep", MaxDepth)
		}
	}
	path = encodeName(name)
	if _, _, err := node.CanonicalPath(path); err != nil { // such as a segment "..;"
		return "", fmt.Errorf("no request can name it: %w", err)
	}
	return path, nil
}

// checkSegment returns why no file or folder may have this name.
func checkSegment(segment string) error {
	switch {
	case segment == "":
		return errors.New("it has an empty name")
	case segment == "." || segment == "..":
		return fmt.Errorf("it has the name %q, which means another folder", segment)
	case deviceName(segment):
		return fmt.Errorf("%q is a device on Windows: give it another name", segment)
	}
	for _, c := range segment {
		switch {
		case c == '\\':
			return fmt.Errorf("%q has a backslash, which browsers take for a slash", segment)
		case unicode.IsControl(c):
			return fmt.Errorf("%q has the control character %U", segment, c)
		}
	}
	return nil
}

// deviceName reports whether Windows opens a device for a name, whatever its extension. A folder that one system
// publishes should mean the same on another.
func deviceName(segment string) bool {
	base, _, _ := strings.Cut(segment, ".")
	base = strings.ToUpper(strings.TrimRight(base, " "))
	switch base {
	case "CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$":
		return true
	}
	number, com := strings.CutPrefix(base, "COM")
	if !com {
		if number, com = strings.CutPrefix(base, "LPT"); !com {
			return false
		}
	}
	switch number {
	case "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "¹", "²", "³":
		return true
	}
	return false
}

// rawNameChars are the characters beside unreserved ones that may stand in a path as they are (RFC 3986 §3.3).
const rawNameChars = "/!$&'()*+,;=:@"

// encodeName returns the path of a name: only what can't stand in a path is encoded.
func encodeName(name string) string {
	var b strings.Builder
	b.Grow(len(name) + 1)
	b.WriteByte('/')
	for i := range len(name) {
		if c := name[i]; node.Unreserved(c) || strings.IndexByte(rawNameChars, c) >= 0 {
			b.WriteByte(c)
		} else {
			writeEscape(&b, c)
		}
	}
	return b.String()
}

func writeEscape(b *strings.Builder, c byte) {
	const hex = "0123456789ABCDEF"
	b.WriteByte('%')
	b.WriteByte(hex[c>>4])
	b.WriteByte(hex[c&15])
}

// lookupPath returns the form of a canonical request path that CheckName gives: browsers and frameworks may send
// /%40scope/x for the file @scope/x, and to node.CanonicalPath the two differ. Without such an encoding it returns path
// itself.
func lookupPath(path string) string { return unescapeExcept(path, "") }

// unescapeExcept is lookupPath without the characters of except.
func unescapeExcept(path, except string) string {
	at := strings.IndexByte(path, '%')
	if at < 0 {
		return path
	}
	var b []byte // nil while nothing differs
	for i := at; i < len(path); i++ {
		c := path[i]
		if raw, ok := rawEscape(path[i:], except); ok {
			if b == nil {
				b = append(make([]byte, 0, len(path)), path[:i]...)
			}
			c = raw
			i += 2
		}
		if b != nil {
			b = append(b, c)
		}
	}
	if b == nil {
		return path
	}
	return string(b)
}

// rawEscape returns the character of the encoding that s begins with, if paths of files have it as it is.
func rawEscape(s, except string) (raw byte, ok bool) {
	if len(s) < 3 || s[0] != '%' {
		return 0, false
	}
	high, ok1 := node.HexDigit(s[1])
	low, ok2 := node.HexDigit(s[2])
	raw = high<<4 | low
	return raw, ok1 && ok2 && raw != '/' && strings.IndexByte(rawNameChars, raw) >= 0 &&
		strings.IndexByte(except, raw) < 0
}
