package config

import (
	"bytes"
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/token"
)

// syntaxError is the interface of the parser's errors.
type syntaxError interface {
	error
	GetMessage() string
	GetToken() *token.Token
}

// reportSyntax reports the syntax error at which the parser stopped, with a hint from the text there. It reports
// nothing if checkTokens has reported the line already: that is the cause.
func reportSyntax(r *report, data []byte, err error) {
	var e syntaxError
	if !errors.As(err, &e) || e.GetToken() == nil {
		r.add(position{1, 1}, nil, "not YAML: the parser stopped without naming a place")
		return
	}
	pos := tokenPosition(e.GetToken())
	if slices.ContainsFunc(r.mistakes, func(m Mistake) bool { return m.Line == pos.line }) {
		return
	}
	if hint := explainSyntax(data, pos); hint != "" {
		r.add(pos, nil, "not YAML: %s", hint)
		return
	}
	r.add(pos, nil, "not YAML: %s; check the indentation, the quotes and the brackets here", e.GetMessage())
}

// secondColon matches a plain text followed by a colon, like a key.
var secondColon = regexp.MustCompile(`^[^"'\[\]{},#:]+:( |$)`)

// explainSyntax explains common mistakes from the text of the file.
func explainSyntax(data []byte, pos position) string {
	lines := bytes.Split(data, []byte("\n"))
	if pos.line < 1 || pos.line > len(lines) {
		return ""
	}
	line := []rune(string(lines[pos.line-1]))
	indent := string(line[:len(line)-len([]rune(strings.TrimLeft(string(line), " \t")))])
	col := max(0, min(pos.col-1, len(line)))
	rest := strings.TrimLeft(string(line[col:]), " ")
	switch {
	case strings.Contains(indent, "\t"):
		return "a tab indents this line; use spaces"
	case strings.HasPrefix(rest, "{") && col > 0 && line[col-1] == '$':
		return `inside [ ] and { } a variable needs quotes: "${NAME}"`
	case strings.IndexAny(rest, "{[") == 0 && col > 0 && !strings.ContainsRune(" ,[{:", line[col-1]):
		return `inside [ ] and { } a text with brackets needs quotes: "/users/{id}"`
	case rest != "" && strings.ContainsRune("@`%", []rune(rest)[0]):
		return "a text can't begin with " + string([]rune(rest)[0]) + "; put it in quotes"
	case strings.HasPrefix(rest, "- "):
		return "a list can't begin on the line of its key; put each - on a line of its own"
	case secondColon.MatchString(rest) && strings.TrimSpace(string(line[:col])) == "":
		return "the indentation of this line fits none of the lines above"
	case secondColon.MatchString(rest):
		return `a second "key: value" on the line; put it on a line of its own, further in, or in quotes if it is a text`
	}
	return ""
}
