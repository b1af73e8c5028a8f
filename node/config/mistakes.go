package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds on what one run reports, so that no file can make the report much larger than itself.
const (
	maxMistakes     = 500
	maxMessageBytes = 600
)

// Mistake is one error in a file, or one warning. Line and Col count from 1, Col in characters; both are 0 for a
// mistake that has no place. Message is one line and never holds a token.
type Mistake struct {
	File      string
	Line, Col int
	Message   string
	Warning   bool // the file is used all the same
}

// String returns file:line:col: message, or file:line:col: warning: message, which editors and CI systems turn into a
// link.
func (m Mistake) String() string {
	message := m.Message
	if m.Warning {
		message = "warning: " + message
	}
	return m.Place() + ": " + message
}

// Place returns file:line:col, or just the file for a mistake that has no place in it.
func (m Mistake) Place() string {
	if m.Line == 0 {
		return m.File
	}
	return fmt.Sprintf("%s:%d:%d", m.File, m.Line, m.Col)
}

// Errors is every mistake that one run found, ordered by position. It is what Parse and Load return as error when the
// file could be read but not used.
type Errors []Mistake

// Error writes one mistake a line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, m := range e {
		lines[i] = m.String()
	}
	return strings.Join(lines, "\n")
}

// position is a place in the file: line and column, from 1.
type position struct{ line, col int }

// report gathers the mistakes of one run. It isn't safe for concurrent use.
type report struct {
	marks // places with a mistake, reported or quiet

	file     string
	mistakes Errors
	quiet    int  // above 0 a mistake only marks its path
	dropped  int  // mistakes beyond maxMistakes
	warns    bool // what is reported are warnings
}

// add reports a mistake at a position; path is the place that can't be trusted any more, nil if there is none.
func (r *report) add(pos position, path []string, format string, args ...any) {
	if path != nil {
		r.marks.add(path)
	}
	switch {
	case r.quiet > 0:
	case len(r.mistakes) >= maxMistakes:
		r.dropped++
	default:
		m := Mistake{
			File: r.file, Line: pos.line, Col: pos.col, Message: oneLine(fmt.Sprintf(format, args...)),
			Warning: r.warns,
		}
		r.mistakes = append(r.mistakes, m)
	}
}

// err returns the mistakes in the order of the file, each once, or nil.
func (r *report) err() error {
	if len(r.mistakes) == 0 {
		return nil
	}
	return r.sorted()
}

// sorted returns the mistakes in the order of the file, each once.
func (r *report) sorted() Errors {
	slices.SortStableFunc(r.mistakes, func(a, b Mistake) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
	})
	out := slices.Compact(r.mistakes)
	if r.dropped > 0 {
		out = append(out, Mistake{
			File:    r.file,
			Message: fmt.Sprintf("and %d more: these are the first %d", r.dropped, maxMistakes), Warning: r.warns,
		})
	}
	return out
}

// oneLine makes a message safe to print: no control characters, and not longer than maxMessageBytes.
func oneLine(s string) string {
	if len(s) > maxMessageBytes {
		cut := maxMessageBytes
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "..."
	}
	return strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return ' '
		}
		return c
	}, s)
}
