package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Body is the JSON that a call sends, with references as in a Template: within a text, {name} and {call.field} stand
// for a text or number; a text that is a reference and nothing else stands for the value itself, of whatever type. {{
// and }} are the braces themselves. Names of members stay as they are.
type Body struct {
	text   JSON
	pieces []bodyPiece
}

// bodyPiece is JSON as it is, or a reference.
type bodyPiece struct {
	literal string
	ref     Ref
	within  bool // a text, whose quotes are literal
}

// ErrBodyValue means that a list, mapping or null can't stand within a text.
var ErrBodyValue = errors.New("the value can't be a part of a text")

// UnmarshalJSON reads the body and the references in its texts.
func (b *Body) UnmarshalJSON(text []byte) error {
	var out Body
	if err := out.text.UnmarshalJSON(text); err != nil {
		return err
	}
	for rest := string(out.text); rest != ""; {
		before, after, found := strings.Cut(rest, `"`)
		if !found {
			out.literal(rest)
			break
		}
		out.literal(before)
		end := endOfText(after)
		quoted := `"` + after[:end]
		rest = after[end:]
		if strings.HasPrefix(rest, ":") {
			out.literal(quoted)
		} else if err := out.readText(quoted); err != nil {
			return err
		}
	}
	*b = out
	return nil
}

// endOfText gives the length of a JSON text without its first quote.
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

// literal adds JSON that stays as it is.
func (b *Body) literal(s string) {
	if n := len(b.pieces); n > 0 && b.pieces[n-1].ref == (Ref{}) {
		b.pieces[n-1].literal += s
	} else if s != "" {
		b.pieces = append(b.pieces, bodyPiece{literal: s})
	}
}

// readText reads a text, in its quotes.
func (b *Body) readText(quoted string) error {
	var text string
	if err := json.Unmarshal([]byte(quoted), &text); err != nil {
		return fmt.Errorf("not JSON: %w", err)
	}
	if ref, ok := wholeRef(text); ok {
		b.pieces = append(b.pieces, bodyPiece{ref: ref})
		return nil
	}
	b.literal(`"`)
	for s := text; s != ""; {
		i := strings.IndexAny(s, "{}")
		if i < 0 {
			b.literal(inText(s))
			break
		}
		b.literal(inText(s[:i]))
		if s = s[i:]; strings.HasPrefix(s, "{{") || strings.HasPrefix(s, "}}") {
			b.literal(s[:1])
			s = s[2:]
			continue
		}
		name, after, closed := strings.Cut(s[1:], "}")
		ref, ok := parseRef(name)
		if s[0] == '}' || !closed || !ok {
			return fmt.Errorf("text %q: write {param}, or {call.field} for a part of another call's result, and {{ or "+
				"}} for a brace", text)
		}
		b.pieces = append(b.pieces, bodyPiece{ref: ref, within: true})
		s = after
	}
	b.literal(`"`)
	return nil
}

// wholeRef reads a text that is one reference.
func wholeRef(text string) (Ref, bool) {
	name, ok := paramName(text)
	if !ok || strings.ContainsAny(name, "{}") {
		return Ref{}, false
	}
	return parseRef(name)
}

// inText writes a part of a text as JSON, without quotes.
func inText(s string) string {
	quoted, _ := json.Marshal(s) // a text always marshals
	return string(quoted[1 : len(quoted)-1])
}

// MarshalJSON gives the body as UnmarshalJSON reads it.
func (b Body) MarshalJSON() ([]byte, error) { return b.text.MarshalJSON() }

// None reports whether there is no body.
func (b Body) None() bool { return b.text == "" }

// Refs lists what the body refers to, in order; within tells of each whether it is a part of a text.
func (b Body) Refs() (refs []Ref, within []bool) {
	for _, p := range b.pieces {
		if p.ref != (Ref{}) {
			refs, within = append(refs, p.ref), append(within, p.within)
		}
	}
	return refs, within
}

// Expand puts values in place, of which value gives the JSON. It fails with ErrBodyValue where a value can't be a part
// of a text, and with the error of value.
func (b Body) Expand(value func(Ref) (JSON, error)) ([]byte, error) {
	var out []byte
	for _, p := range b.pieces {
		if p.ref == (Ref{}) {
			out = append(out, p.literal...)
			continue
		}
		v, err := value(p.ref)
		if err == nil && p.within {
			v, err = v.within()
		}
		if err != nil {
			return nil, err
		}
		out = append(out, v...)
	}
	return out, nil
}

// within gives the value as a part of a text: what stands between a text's quotes, or the number, true or false.
func (j JSON) within() (JSON, error) {
	switch {
	case j == "" || j == "null" || j[0] == '{' || j[0] == '[':
		return "", ErrBodyValue
	case j[0] == '"':
		return j[1 : len(j)-1], nil
	}
	return j, nil
}
