package publish

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"millrace/node/site"
)

// Severity says what a problem means for a publish.
type Severity string

// The severities, the worst first.
const (
	Bad     Severity = "error"   // the folder can't be published
	Warning Severity = "warning" // it can, but may not be what was meant
	Skipped Severity = "skipped" // a file that isn't published, on purpose
)

// Problem is something that a person should know of a folder. Name is the file in the folder, with slashes; empty if
// the problem is about the whole folder. Line and Column count from 1, and are 0 unless the problem is about a line.
type Problem struct {
	Severity Severity `json:"severity"`
	Name     string   `json:"name,omitempty"`
	Line     int      `json:"line,omitempty"`
	Column   int      `json:"column,omitempty"`
	Message  string   `json:"message"`
}

// String returns the problem as compilers write theirs: _redirects:12:4: message. A name that isn't plain text is
// quoted.
func (p Problem) String() string {
	if p.Name == "" {
		return p.Message
	}
	at := showName(p.Name)
	if p.Line > 0 {
		at += ":" + strconv.Itoa(p.Line)
		if p.Column > 0 {
			at += ":" + strconv.Itoa(p.Column)
		}
	}
	return at + ": " + p.Message
}

// showName quotes a name that a terminal wouldn't show as it is.
func showName(name string) string {
	if quoted := strconv.QuoteToGraphic(name); quoted != `"`+name+`"` {
		return quoted
	}
	return name
}

// ErrFolder means that a folder can't be published as it is.
var ErrFolder = errors.New("the folder can't be published")

// FolderError has the problems of a folder, at least one of them Bad. It is ErrFolder.
type FolderError struct{ Problems []Problem }

// Error returns the bad problems, one a line.
func (e *FolderError) Error() string {
	var lines []string
	for _, p := range e.Problems {
		if p.Severity == Bad {
			lines = append(lines, p.String())
		}
	}
	return fmt.Sprintf("%s:\n  %s", ErrFolder, strings.Join(lines, "\n  "))
}

// Unwrap returns ErrFolder.
func (*FolderError) Unwrap() error { return ErrFolder }

// maxProblems bounds the problems of each severity that are kept; more are counted.
const maxProblems = 1000

// problems collects problems. It isn't safe for concurrent use.
type problems struct {
	list  []Problem
	count map[Severity]int
}

func (p *problems) add(severity Severity, name, format string, args ...any) {
	p.put(Problem{Severity: severity, Name: name, Message: fmt.Sprintf(format, args...)})
}

func (p *problems) put(one Problem) {
	if p.count == nil {
		p.count = map[Severity]int{}
	}
	if p.count[one.Severity]++; p.count[one.Severity] <= maxProblems {
		p.list = append(p.list, one)
	}
}

// mistakes adds what is wrong in a file of rules.
func (p *problems) mistakes(wrong []site.Mistake) {
	for _, m := range wrong {
		one := Problem{Severity: Bad, Name: m.File, Line: m.Line, Column: m.Column, Message: m.Text}
		if m.Warning {
			one.Severity = Warning
		}
		if m.Hint != "" {
			one.Message += " (" + m.Hint + ")"
		}
		p.put(one)
	}
}

// sorted returns the problems: the worst first, then by name and line.
func (p *problems) sorted() []Problem {
	list := slices.Clone(p.list)
	rank := map[Severity]int{Bad: 0, Warning: 1, Skipped: 2}
	slices.SortStableFunc(list, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(rank[a.Severity], rank[b.Severity]), cmp.Compare(a.Name, b.Name),
			cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	for _, severity := range []Severity{Bad, Warning, Skipped} {
		if more := p.count[severity] - maxProblems; more > 0 {
			list = append(list, Problem{Severity: severity, Message: fmt.Sprintf("and %d more like these", more)})
		}
	}
	return list
}

// bad reports whether the folder can't be published.
func (p *problems) bad() bool { return p.count[Bad] > 0 }
