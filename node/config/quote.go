package config

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/token"

	"millrace/node"
)

// shortDuration returns 1h where time.Duration.String returns 1h0m0s.
func shortDuration(d node.Duration) string {
	s := d.Std().String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

var plainText = regexp.MustCompile(`^[A-Za-z0-9/][A-Za-z0-9/._{}*~+@:-]*$`)

// ambiguousText matches texts that other YAML parsers don't read as text.
var ambiguousText = regexp.MustCompile(`(?i)^(y|n|yes|no|on|off|[0-9][0-9.e_+-]*)$`)

// quote returns a text as YAML, without quotes where that means the same.
func (w *writer) quote(s string, key bool) string {
	if !utf8.ValidString(s) && w.err == nil {
		w.err = fmt.Errorf("text %q is not UTF-8", s)
	}
	if plainText.MatchString(s) && !ambiguousText.MatchString(s) && (!key || !strings.Contains(s, ":")) {
		tokens := lexer.Tokenize("k: " + s)
		if len(tokens) == 3 && tokens[2].Type == token.StringType && tokens[2].Value == s {
			return s
		}
	}
	return quoted(s)
}

// quoted returns a text in quotes.
func quoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteRune(c)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\t':
			b.WriteString(`\t`)
		case c < ' ' || c == 0x7f || (c > 0x7f && !unicode.IsPrint(c)):
			fmt.Fprintf(&b, `\U%08X`, c)
		default:
			b.WriteRune(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
