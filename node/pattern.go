package node

import (
	"errors"
	"fmt"
	"strings"
)

// Pattern is the path of a route: literal segments, {param} segments that match one non-empty segment, and possibly a
// trailing /* that matches any further segments or none. Patterns are compared with canonical paths byte by byte.
type Pattern struct {
	Segments []Segment
	Rest     bool // ends in /*
}

// Segment is one piece of a Pattern: a literal, or a parameter if Param is set.
type Segment struct {
	Literal string // canonical, as CanonicalPath writes it
	Param   string
}

// ParsePattern parses a pattern such as /api/*, /users/{id} or /. Literal segments may be written readably (/café, /a
// b) or percent-encoded. The result has them in canonical form.
func ParsePattern(s string) (Pattern, error) {
	if !strings.HasPrefix(s, "/") {
		return Pattern{}, fmt.Errorf("path %q doesn't begin with /", s)
	}
	var p Pattern
	seen := map[string]bool{}
	parts := strings.Split(s[1:], "/")
	for i, part := range parts {
		if part == "*" && i == len(parts)-1 {
			p.Rest = true
			break
		}
		seg, err := parseSegment(part)
		if err != nil {
			return Pattern{}, fmt.Errorf("path %q: %w", s, err)
		}
		if seg.Param != "" && seen[seg.Param] {
			return Pattern{}, fmt.Errorf("path %q names {%s} twice", s, seg.Param)
		}
		seen[seg.Param] = true
		p.Segments = append(p.Segments, seg)
	}
	return p, nil
}

func parseSegment(part string) (Segment, error) {
	if name, ok := paramName(part); ok {
		if !validParam(name) {
			return Segment{}, fmt.Errorf("{%s} is not a parameter: use letters, digits and _", name)
		}
		return Segment{Param: name}, nil
	}
	if name, colon := strings.CutPrefix(part, ":"); colon && validParam(name) {
		return Segment{}, fmt.Errorf("segment %q isn't a parameter here: write {%s}", part, name)
	}
	for i := range len(part) {
		switch c := part[i]; c {
		case '*':
			return Segment{}, errors.New("* may only be the whole last segment, as in /api/*")
		case '{', '}':
			return Segment{}, errors.New("a parameter must be a whole segment, as in /users/{id}")
		case '?':
			return Segment{}, errors.New("a path ends before the ?: requests match with any query; write %3F for the " +
				"character itself")
		}
	}
	return parseLiteral(part)
}

// parseLiteral returns a literal segment in canonical form.
func parseLiteral(part string) (Segment, error) {
	encoded, err := EncodeWritten(part)
	if err != nil {
		return Segment{}, err
	}
	canonical, _, err := CanonicalPath("/" + encoded)
	if err != nil {
		return Segment{}, fmt.Errorf("segment %q never matches: %w", part, err)
	}
	return Segment{Literal: canonical[1:]}, nil
}

// UnmarshalText is ParsePattern for the configuration.
func (p *Pattern) UnmarshalText(text []byte) error {
	v, err := ParsePattern(string(text))
	*p = v
	return err
}

// String returns the pattern in readable form. ParsePattern accepts it.
func (p Pattern) String() string { return p.write(asWritten) }

// Canonical returns the pattern with its literal segments in canonical form.
func (p Pattern) Canonical() string { return p.write(func(literal string) string { return literal }) }

func (p Pattern) write(literal func(string) string) string {
	var b strings.Builder
	for _, s := range p.Segments {
		b.WriteByte('/')
		if s.Param != "" {
			b.WriteString("{" + s.Param + "}")
		} else {
			b.WriteString(literal(s.Literal))
		}
	}
	if p.Rest {
		b.WriteString("/*")
	}
	return b.String()
}

// MarshalText returns the pattern in readable form. UnmarshalText accepts it.
func (p Pattern) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// Params returns the names of the pattern's parameters in order.
func (p Pattern) Params() []string {
	var names []string
	for _, s := range p.Segments {
		if s.Param != "" {
			names = append(names, s.Param)
		}
	}
	return names
}

// Relation is the relation between the sets of requests that two rules match.
type Relation int

// The relations of a rule A to a rule B.
const (
	Disjoint Relation = iota // no request matches both
	Equal                    // both match the same requests
	Narrower                 // B matches all that A matches, and more
	Wider                    // A matches all that B matches, and more
	Overlap                  // each matches something that the other doesn't, and both match something
)

// Compare returns the relation of the paths that p matches to those that q matches.
func (p Pattern) Compare(q Pattern) Relation {
	rel := Equal
	n := min(len(p.Segments), len(q.Segments))
	for i := range n {
		a, b := p.Segments[i], q.Segments[i]
		switch {
		case a.Param == "" && b.Param == "":
			if a.Literal != b.Literal {
				return Disjoint
			}
		case a.Param == "":
			if a.Literal == "" { // a parameter never matches an empty segment
				return Disjoint
			}
			rel = rel.and(Narrower)
		case b.Param == "":
			if b.Literal == "" {
				return Disjoint
			}
			rel = rel.and(Wider)
		}
	}
	return rel.and(compareTails(p, q, n))
}

// compareTails returns the relation of what follows the first n segments, which both patterns have. A trailing /*
// matches no further segments too, so /a/* is wider than /a.
func compareTails(p, q Pattern, n int) Relation {
	pLonger, qLonger := len(p.Segments) > n, len(q.Segments) > n
	switch {
	case !pLonger && !qLonger && p.Rest == q.Rest:
		return Equal
	case !pLonger && p.Rest && !qLonger, !pLonger && p.Rest && qLonger:
		return Wider
	case !qLonger && q.Rest:
		return Narrower
	default:
		return Disjoint
	}
}

// and combines the relations of two independent conditions that both must hold.
func (r Relation) and(s Relation) Relation {
	switch {
	case r == Disjoint || s == Disjoint:
		return Disjoint
	case r == Equal:
		return s
	case s == Equal || r == s:
		return r
	default:
		return Overlap
	}
}

// Matches reports whether the pattern matches a canonical path.
func (p Pattern) Matches(path string) bool {
	for _, seg := range p.Segments {
		if path == "" {
			return false
		}
		part := path[1:]
		if i := strings.IndexByte(part, '/'); i >= 0 {
			part = part[:i]
		}
		if (seg.Param == "" && part != seg.Literal) || (seg.Param != "" && part == "") {
			return false
		}
		path = path[1+len(part):]
	}
	return path == "" || p.Rest || (path == "/" && len(p.Segments) == 0)
}
