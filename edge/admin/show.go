package admin

import (
	"strconv"
	"strings"
	"unicode"
)

// Show makes a text of a client (a tag, a key, a path, a name) safe to print and to write into the journal. It returns
// a text of visible characters as it is, and any other in quotes with Go's escapes. So the text can't contain terminal
// escapes or line breaks.
func Show(s string) string {
	hidden := func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }
	if s == "" || s[0] == '"' || s[0] == ' ' || s[len(s)-1] == ' ' || strings.ContainsFunc(s, hidden) {
		return strconv.Quote(s)
	}
	return s
}

// ShowLines is Show for a text of several lines, such as a report of mistakes. It applies Show to each line, and puts
// indent before each line but the first.
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
