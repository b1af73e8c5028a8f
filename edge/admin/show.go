package admin

import (
	"strconv"
	"strings"
	"unicode"
)

// Show gives a text from outside (a tag, a key, a path, a name that a client chose) as it may be printed or written
// into the journal: as it is if it consists of what can be seen, else in quotes with escapes, as Go writes it. So it
// can't act on a terminal, and can't pass for more than one text: a line break in it doesn't begin a line.
func Show(s string) string {
	hidden := func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }
	if s == "" || s[0] == '"' || s[0] == ' ' || s[len(s)-1] == ' ' || strings.ContainsFunc(s, hidden) {
		return strconv.Quote(s)
	}
	return s
}

// ShowLines is Show for a text that may have several lines, such as a report of mistakes: each line is shown for
// itself, and those after the first are indented.
func ShowLines(s, indent string) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	for i, line := range lines {
		trimmed := strings.TrimRight(line, " ")
		body := strings.TrimLeft(trimmed, " ")
		if body != "" {
			lines[i] = trimmed[:len(trimmed)-len(body)] + Show(body)
		}
	}
	return strings.Join(lines, "\n"+indent)
}
