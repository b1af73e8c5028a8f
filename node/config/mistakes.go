package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of a report, so that no file can make it much larger than itself.
const (
	maxMistakes     = 500
	maxMessageBytes = 600
)

// Mistake is one error or warning about a file. Line and Col count from 1, Col in characters; both are 0 for a mistake
// without a position. Message is one line and never contains a token.
type Mistake struct {
	File      string
	Line, Col int
	Message   string
	Warning   bool // the file is used anyway
}

// String returns file:line:col: message, or file:line:col: warning: message. Editors and CI systems turn these into
// links.
func (m Mistake) String() string {
	message := m.Message
	if m.Warning {
		message = "warning: " + message
	}
	return m.Place() + ": " + message
}

// Place returns file:line:col, or just the file for a mistake without a position.
func (m Mistake) Place() string {
	if m.Line == 0 {
		return m.File
	}
	return fmt.Sprintf("%s:%d:%d", m.File, m.Line, m.Col)
}

// Errors has all mistakes that one run found, in the order of the file. Parse and Load return it as their error if the
// file could be read but isn't valid.
type Errors []Mistake

// Error returns one mistake per line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, m := range e {
		lines[i] = m.String()
	}
	return strings.Join(lines, "\n")
}

// position is a line and column of the file, from 1.
type position struct{ line, col int }

// report collects the mistakes of one run. It isn't safe for concurrent use.
type report struct {
	mistakeTree // paths with a mistake, reported or quiet

	file     string
	mistakes Errors
	quiet    int  // above 0, mistakes are only added to mistakeTree
	dropped  int  // mistakes beyond maxMistakes
	warns    bool // what is reported are warnings
}

// add reports a mistake at a position. path is that of the value that can't be trusted any more; nil if there is none.
func (r *report) add(pos position, path []string, format string, args ...any) {
	if path != nil {
		r.mistakeTree.add(path)
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

// err returns the mistakes in the order of the file without repeats, or nil.
func (r *report) err() error {
	if len(r.mistakes) == 0 {
		return nil
	}
	return r.sorted()
}

// sorted returns the mistakes in the order of the file without repeats.
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
