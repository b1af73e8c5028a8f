package node

import (
	"errors"
	"fmt"
	"strings"
)

// MaxSubject is the largest length in bytes of a subject built from a request.
const MaxSubject = 256

// ErrParam means that a request's path parameter can't be a subject token; the request has no route (404).
var ErrParam = errors.New("path parameter can't be a subject token")

// Subject is a NATS subject in which whole tokens may be route parameters, such as orders.get.{id}.
type Subject struct {
	tokens []string // parameters include their braces
}

// ParseSubject parses a subject. It refuses wildcards, empty tokens, and the subjects of Millrace and of the NATS
// server.
func ParseSubject(s string) (Subject, error) {
	if s == "" || len(s) > MaxSubject {
		return Subject{}, fmt.Errorf("subject has %d bytes: use 1 to %d", len(s), MaxSubject)
	}
	tokens := subjectTokens(s)
	for _, t := range tokens {
		name, isParam := paramName(t)
		if isParam && !validParam(name) {
			return Subject{}, paramError(name, s)
		}
		if !isParam && !validToken(t) {
			return Subject{}, fmt.Errorf("token %q of subject %q: use A-Z, a-z, 0-9, - and _, or a whole {param}", t, s)
		}
	}
	for _, own := range []string{"http", "upstream", "cancel", "event", "millrace", "api", "stream"} {
		if tokens[0] == own {
			return Subject{}, fmt.Errorf("subject %q: %s.> belongs to Millrace itself", s, own)
		}
	}
	if _, isParam := paramName(tokens[0]); isParam {
		return Subject{}, fmt.Errorf("subject %q begins with a parameter: the first token must be fixed", s)
	}
	return Subject{tokens: tokens}, nil
}

// subjectTokens splits a subject at its dots, except within braces: {call.field} is one token, although no subject can
// have it.
func subjectTokens(s string) (tokens []string) {
	begin, within := 0, false
	for i := range len(s) {
		switch c := s[i]; {
		case c == '{' && i == begin && strings.Contains(s[i:], "}"):
			within = true
		case c == '}':
			within = false
		case c == '.' && !within:
			tokens, begin = append(tokens, s[begin:i]), i+1
		}
	}
	return append(tokens, s[begin:])
}

// paramError returns the error for a token that is written like a parameter but can't be one.
func paramError(name, subject string) error {
	ref, ok := parseRef(name)
	switch text := ref.explain(&Route{To: Target{Kind: KindNATS}}); {
	case ok && text != "":
		return fmt.Errorf("subject %q: %s", subject, text)
	case ok && ref.Param == Rest:
		return fmt.Errorf("subject %q: %s may be several segments, and a token is one: name parameters, as {id} in "+
			"/users/{id}",
			subject, ref)
	case ok:
		return fmt.Errorf("subject %q: %s can't be in a subject, which has the parameters of the path alone, such as "+
			"{id}",
			subject, ref)
	}
	return fmt.Errorf("%q in subject %q is not a parameter: write {name}", "{"+name+"}", subject)
}

// Refs returns the references of the subject in order.
func (s Subject) Refs() []Ref {
	var refs []Ref
	for _, name := range s.Params() {
		refs = append(refs, Ref{Param: name})
	}
	return refs
}

// Params returns the names of the route parameters in the subject, in order.
func (s Subject) Params() []string {
	var names []string
	for _, t := range s.tokens {
		if name, ok := paramName(t); ok {
			names = append(names, name)
		}
	}
	return names
}

// Expand replaces the parameters with their values. It fails with ErrParam if a value isn't 1 to 64 of A-Z, a-z, 0-9, -
// and _, or if the result is longer than MaxSubject.
func (s Subject) Expand(value func(param string) string) (string, error) {
	if len(s.Params()) == 0 {
		return s.String(), nil
	}
	var b strings.Builder
	for i, t := range s.tokens {
		if i > 0 {
			b.WriteByte('.')
		}
		if name, ok := paramName(t); ok {
			t = value(name)
			if len(t) > MaxName || !validToken(t) {
				return "", ErrParam
			}
		}
		b.WriteString(t)
	}
	if b.Len() > MaxSubject {
		return "", ErrParam
	}
	return b.String(), nil
}

// Wildcard returns the subject with * for each parameter, to subscribe to all of its requests.
func (s Subject) Wildcard() string {
	out := make([]string, len(s.tokens))
	for i, t := range s.tokens {
		if out[i] = t; t[0] == '{' {
			out[i] = "*"
		}
	}
	return strings.Join(out, ".")
}

// String returns the subject as it was written.
func (s Subject) String() string { return strings.Join(s.tokens, ".") }

func validToken(t string) bool {
	for i := range len(t) {
		c := t[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return t != ""
}

func paramName(segment string) (string, bool) {
	if len(segment) > 1 && segment[0] == '{' && segment[len(segment)-1] == '}' {
		return segment[1 : len(segment)-1], true
	}
	return "", false
}

func validParam(name string) bool {
	return validToken(name) && !strings.Contains(name, "-")
}
