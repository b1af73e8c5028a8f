package site

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Mistake is something wrong in a file with rules. Nothing of a folder with mistakes is published. A Warning doesn't
// stop anything.
type Mistake struct {
	File    string
	Line    int // from 1
	Column  int // in characters, from 1
	Text    string
	Hint    string // what to do about it; may be empty
	Warning bool
}

// String returns the mistake on one line: _headers:3:5: text (hint).
func (m Mistake) String() string {
	s := fmt.Sprintf("%s:%d:%d: %s", m.File, m.Line, m.Column, m.Text)
	if m.Hint != "" {
		s += " (" + m.Hint + ")"
	}
	return s
}

// Wrong reports whether there is a mistake among these that isn't just a warning.
func Wrong(mistakes []Mistake) bool {
	return slices.ContainsFunc(mistakes, func(m Mistake) bool { return !m.Warning })
}

// maxMistakes is how many mistakes of a file are reported: what comes beyond doesn't help anybody.
const maxMistakes = 100

// mistakes gathers the mistakes of one file.
type mistakes struct {
	file string
	all  []Mistake
}

// report adds a mistake at a byte of a line.
func (m *mistakes) report(l line, at int, err error) { m.add(l, at, err, false) }

// warn adds a warning.
func (m *mistakes) warn(l line, at int, err error) { m.add(l, at, err, true) }

func (m *mistakes) add(l line, at int, err error, warning bool) {
	if len(m.all) >= maxMistakes {
		return
	}
	hint := ""
	if h, ok := errors.AsType[*hinted](err); ok {
		hint = h.hint
	}
	column := utf8.RuneCountInString(l.text[:min(at, len(l.text))]) + 1
	m.all = append(m.all, Mistake{
		File: m.file, Line: l.number, Column: column, Text: printable(err.Error()), Hint: printable(hint),
		Warning: warning,
	})
}

// printable replaces what would change a terminal or end a line: messages cite files, which may hold anything.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return unicode.ReplacementChar
		}
		return c
	}, s)
}

// sorted returns the mistakes in the order of their places.
func (m *mistakes) sorted() []Mistake {
	slices.SortStableFunc(m.all, func(a, b Mistake) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return m.all
}

// hinted is an error with a hint for people.
type hinted struct{ text, hint string }

func (e *hinted) Error() string { return e.text }

func mistakef(hint, format string, args ...any) error {
	return &hinted{fmt.Sprintf(format, args...), hint}
}

// line is a line of a file, without its end. number counts from 1.
type line struct {
	number int
	text   string
}

// lines calls visit with each line of a text that isn't empty or a comment. It takes lines of Unix, of Windows, and a
// byte order mark.
func lines(text []byte, visit func(line)) {
	number := 0
	for s := range strings.SplitSeq(strings.TrimPrefix(string(text), "\ufeff"), "\n") {
		number++
		s = strings.TrimRight(s, " \t\r")
		if begin := strings.TrimLeft(s, " \t"); begin != "" && begin[0] != '#' {
			visit(line{number, s})
		}
	}
}

// word is a piece of a line between blanks. at is where it begins, in bytes.
type word struct {
	text string
	at   int
}

// words splits a line at its blanks. A word that begins with # begins a comment.
func (l line) words() []word {
	var all []word
	for i := 0; i < len(l.text); {
		if l.text[i] == ' ' || l.text[i] == '\t' {
			i++
			continue
		}
		if l.text[i] == '#' {
			break
		}
		end := i
		for end < len(l.text) && l.text[end] != ' ' && l.text[end] != '\t' {
			end++
		}
		all = append(all, word{l.text[i:end], i})
		i = end
	}
	return all
}
