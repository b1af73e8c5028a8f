package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Body is the JSON body of a call, with references as in a Template. Within a string, {name} and {call.field} stand for
// a string or number. A string that is a single reference stands for the value itself, of any type. {{ and }} are
// braces. Member names aren't changed.
type Body struct {
	text   JSON
	pieces []bodyPiece
}

// bodyPiece is literal JSON, or a reference.
type bodyPiece struct {
	literal string
	ref     Ref
	inText  bool // part of a string, whose quotes are literal
}

// ErrBodyValue means that a list, mapping or null can't be part of a string.
var ErrBodyValue = errors.New("the value can't be a part of a text")

// UnmarshalJSON parses the body and the references in its strings.
func (b *Body) UnmarshalJSON(text []byte) error {
	var out Body
	if err := out.text.UnmarshalJSON(text); err != nil {
		return err
	}
	for rest := string(out.text); rest != ""; {
		before, after, found := strings.Cut(rest, `"`)
		if !found {
			out.addLiteral(rest)
			break
		}
		out.addLiteral(before)
		end := endOfText(after)
		quoted := `"` + after[:end]
		rest = after[end:]
		if strings.HasPrefix(rest, ":") {
			out.addLiteral(quoted)
		} else if err := out.addText(quoted); err != nil {
			return err
		}
	}
	*b = out
	return nil
}

// endOfText returns the length of a JSON string without its first quote.
func endOfText(s string) int {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(s)
}

// addLiteral appends literal JSON.
func (b *Body) addLiteral(s string) {
	if n := len(b.pieces); n > 0 && b.pieces[n-1].ref == (Ref{}) {
		b.pieces[n-1].literal += s
	} else if s != "" {
		b.pieces = append(b.pieces, bodyPiece{literal: s})
	}
}

// addText appends a JSON string, which is given with its quotes.
func (b *Body) addText(quoted string) error {
	var text string
	if err := json.Unmarshal([]byte(quoted), &text); err != nil {
		return fmt.Errorf("not JSON: %w", err)
	}
	if ref, ok := wholeRef(text); ok {
		b.pieces = append(b.pieces, bodyPiece{ref: ref})
		return nil
	}
	b.addLiteral(`"`)
	for s := text; s != ""; {
		i := strings.IndexAny(s, "{}")
		if i < 0 {
			b.addLiteral(textContent(s))
			break
		}
		b.addLiteral(textContent(s[:i]))
		if s = s[i:]; strings.HasPrefix(s, "{{") || strings.HasPrefix(s, "}}") {
			b.addLiteral(s[:1])
			s = s[2:]
			continue
		}
		name, after, closed := strings.Cut(s[1:], "}")
		ref, ok := parseRef(name)
		if s[0] == '}' || !closed || !ok {
			return fmt.Errorf("text %q: write {param}, or {call.field} for a part of another call's result, and {{ or "+
				"}} for a brace", text)
		}
		b.pieces = append(b.pieces, bodyPiece{ref: ref, inText: true})
		s = after
	}
	b.addLiteral(`"`)
	return nil
}

// wholeRef parses a string that is a single reference.
func wholeRef(text string) (Ref, bool) {
	name, ok := paramName(text)
	if !ok || strings.ContainsAny(name, "{}") {
		return Ref{}, false
	}
	return parseRef(name)
}

// textContent encodes a part of a string as JSON, without quotes.
func textContent(s string) string {
	quoted, _ := json.Marshal(s) // a string can always be encoded
	return string(quoted[1 : len(quoted)-1])
}

// MarshalJSON returns the body as UnmarshalJSON reads it.
func (b Body) MarshalJSON() ([]byte, error) { return b.text.MarshalJSON() }

// None reports whether there is no body.
func (b Body) None() bool { return b.text == "" }

// Refs returns the references of the body in order, and whether each is part of a string.
func (b Body) Refs() (refs []Ref, within []bool) {
	for _, p := range b.pieces {
		if p.ref != (Ref{}) {
			refs, within = append(refs, p.ref), append(within, p.inText)
		}
	}
	return refs, within
}

// Expand replaces the references with JSON from value. It fails with ErrBodyValue if a value can't be part of a string,
// and with the error of value.
func (b Body) Expand(value func(Ref) (JSON, error)) ([]byte, error) {
	var out []byte
	for _, p := range b.pieces {
		if p.ref == (Ref{}) {
			out = append(out, p.literal...)
			continue
		}
		v, err := value(p.ref)
		if err == nil && p.inText {
			v, err = v.textContent()
		}
		if err != nil {
			return nil, err
		}
		out = append(out, v...)
	}
	return out, nil
}

// textContent returns the value as part of a string: a string without its quotes, or a number, true or false.
func (j JSON) textContent() (JSON, error) {
	switch {
	case j == "" || j == "null" || j[0] == '{' || j[0] == '[':
		return "", ErrBodyValue
	case j[0] == '"':
		return j[1 : len(j)-1], nil
	}
	return j, nil
}
