package node

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Template is the path of a call or rewrite, possibly with a query. {name} stands for a parameter of the route, and
// {call.field} for a part of an earlier call's result.
type Template struct {
	text   string
	pieces []templatePiece
}

type templatePiece struct {
	literal string // percent-encoded
	ref     Ref
	query   bool // it is after the question mark
}

// ErrTemplateValue means that a value isn't allowed at its position in the template.
var ErrTemplateValue = errors.New("the value can't be a path segment")

// UnmarshalText parses a template such as /orders?user={user}. Readable characters, as in /café, are encoded.
func (t *Template) UnmarshalText(text []byte) error {
	s := string(text)
	if !strings.HasPrefix(s, "/") {
		return fmt.Errorf("path %q doesn't begin with /", s)
	}
	out := Template{text: s}
	query := false
	for s != "" {
		literal, rest, found := strings.Cut(s, "{")
		if strings.Contains(literal, "}") {
			return fmt.Errorf("path %q has a } without its {", out.text)
		}
		literal, err := EncodeWritten(literal)
		if err != nil {
			return fmt.Errorf("path %q: %w", out.text, err)
		}
		if literal != "" {
			out.pieces = append(out.pieces, templatePiece{literal: literal})
		}
		query = query || strings.Contains(literal, "?")
		if !found {
			break
		}
		name, after, closed := strings.Cut(rest, "}")
		ref, ok := parseRef(name)
		if !closed || !ok {
			return fmt.Errorf("path %q: {%s is not a reference: write {param}, or {call.field} for a part of another "+
				"call's result", out.text, name)
		}
		out.pieces = append(out.pieces, templatePiece{ref: ref, query: query})
		s = after
	}
	if path, _, _ := strings.Cut(out.plain(), "?"); !safePath(path) {
		return fmt.Errorf("path %q holds . or .. segments, backslashes or control characters, which no request may "+
			"have", out.text)
	}
	*t = out
	return nil
}

// plain returns the template with a letter in place of each reference.
func (t Template) plain() string {
	var b strings.Builder
	for _, p := range t.pieces {
		b.WriteString(p.literal)
		if p.literal == "" {
			b.WriteByte('x')
		}
	}
	return b.String()
}

// validLiteral reports whether the text is valid in a path or query (RFC 3986 §3.3, §3.4).
func validLiteral(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case (c|0x20 >= 'a' && c|0x20 <= 'z') || (c >= '0' && c <= '9') ||
			strings.IndexByte("-._~!$&'()*+,;=:@/?", c) >= 0:
		case c == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
		default:
			return false
		}
	}
	return true
}

func isHex(c byte) bool { return (c >= '0' && c <= '9') || (c|0x20 >= 'a' && c|0x20 <= 'f') }

// String writes the template as UnmarshalText reads it.
func (t Template) String() string { return t.text }

// MarshalText writes the template as UnmarshalText reads it.
func (t Template) MarshalText() ([]byte, error) { return []byte(t.text), nil }

// Refs returns the references of the template in order.
func (t Template) Refs() []Ref {
	var refs []Ref
	for _, p := range t.pieces {
		if p.literal == "" {
			refs = append(refs, p.ref)
		}
	}
	return refs
}

// encodeParam checks a value from the request's path, which must be canonical, and encodes it. In a path it stays as it
// is, so that the target gets what the client sent (RFC 3986 §2.2). In a query it is decoded and encoded for the query.
func (p *templatePiece) encodeParam(v string) (string, error) {
	refused := "?"
	if p.ref.Param != Rest {
		refused = "?/"
	}
	plain, err := url.PathUnescape(v)
	switch {
	case err != nil || !validLiteral(v) || strings.ContainsAny(v, refused):
		return "", ErrTemplateValue
	case p.query:
		return url.QueryEscape(plain), nil
	case v == "" && p.ref.Param != Rest:
		return "", ErrTemplateValue
	}
	return v, nil
}

// encodeResult encodes a value from an earlier call's result.
func (p *templatePiece) encodeResult(v string) (string, error) {
	switch {
	case p.query:
		return url.QueryEscape(v), nil
	case v == "":
		return "", ErrTemplateValue
	}
	return url.PathEscape(v), nil
}

// Expand replaces the references with their values, so that no value starts another segment, parameter or fragment. For
// a parameter of the route and for Rest, value must return canonical path text, which stays as it is in a path. For a
// call's result it must return plain text, which is percent-encoded. Expand fails with ErrTemplateValue if a value in
// the path is empty or a segment would be "." or "..", and with the error of value.
func (t Template) Expand(value func(Ref) (string, error)) (string, error) {
	var b strings.Builder
	for i := range t.pieces {
		p := &t.pieces[i]
		if p.literal != "" {
			b.WriteString(p.literal)
			continue
		}
		v, err := value(p.ref)
		switch {
		case err != nil:
		case p.ref.Call == "":
			v, err = p.encodeParam(v)
		default:
			v, err = p.encodeResult(v)
		}
		if err != nil {
			return "", err
		}
		b.WriteString(v)
	}
	if path, _, _ := strings.Cut(b.String(), "?"); !safePath(path) {
		return "", ErrTemplateValue
	}
	return b.String(), nil
}

// safePath refuses a path that a target could take for another one: dot segments, also between encoded slashes and
// before a semicolon; backslashes; control characters.
func safePath(path string) bool {
	plain, err := url.PathUnescape(path)
	if err != nil || strings.ContainsFunc(plain, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }) {
		return false
	}
	for segment := range strings.SplitSeq(plain, "/") {
		if name, _, _ := strings.Cut(segment, ";"); name == "." || name == ".." {
			return false
		}
	}
	return true
}
