package config

import (
	"strings"

	"github.com/goccy/go-yaml/token"
)

// Limits of the parser's input: the parser recurses for each level, and its time grows with the square of a mapping's
// size.
const (
	maxDepth   = 32
	maxKeys    = 10_000 // of one mapping or list in block style
	maxRefused = 32
)

// checkTokens checks the tokens before the parser gets them: it refuses parts of YAML that a configuration doesn't
// need, and limits nesting. It reports whether the parser may continue.
func checkTokens(r *report, tokens token.Tokens) bool {
	g := tokenChecker{report: r}
	for _, t := range tokens {
		g.refuse(t)
		if reason := g.measure(t); reason != "" {
			r.add(tokenPosition(t), nil, "%s", reason)
			return false
		}
	}
	return g.refused <= maxRefused
}

type tokenChecker struct {
	report  *report
	refused int
	last    Mistake // so that each line gets a message once
	flow    int     // open [ and {
	block   []level // open block lists and mappings
}

// level is an open list or mapping in block style, with its column and its number of entries so far.
type level struct{ col, entries int }

// refusedTypes has the message for each type of token that isn't allowed.
var refusedTypes = map[token.Type]string{
	token.AnchorType: "anchors (&name) are not allowed: put a text that begins with & in quotes, and write a " +
		"repeated value out",
	token.AliasType: "aliases (*name) are not allowed: put a text that begins with * in quotes, and write a " +
		"repeated value out",
	token.MergeKeyType:   "merge keys (<<) are not allowed: write the keys out",
	token.TagType:        "tags (!name) are not allowed: put a text that begins with ! in quotes",
	token.MappingKeyType: "keys with ? are not allowed: write key: value",
	token.DirectiveType:  "directives (%) are not allowed: leave the line out",
}

// refuse reports a token that isn't allowed.
func (g *tokenChecker) refuse(t *token.Token) {
	message := refusedTypes[t.Type]
	// The parser would drop the tab.
	if t.Type == token.StringType && strings.Contains(strings.TrimSpace(t.Origin), "\t") {
		message = "a tab in a text without quotes: put the text in quotes, or use spaces"
	}
	if message == "" {
		return
	}
	g.refused++
	if m := (Mistake{Line: tokenPosition(t).line, Message: message}); m != g.last {
		g.last = m
		g.report.add(tokenPosition(t), nil, "%s", message)
	}
}

// measure tracks nesting and sizes, and returns the reason if a limit is exceeded.
func (g *tokenChecker) measure(t *token.Token) string {
	g.flow = max(0, g.flow+flowStep(t))
	if isEntry := t.Type == token.SequenceEntryType || t.Type == token.MappingValueType; isEntry && g.flow == 0 &&
		g.entry(t) > maxKeys {
		return "too many entries: a mapping or list has at most 10000"
	}
	if g.flow+len(g.block) > maxDepth {
		return "nested too deep: a configuration has at most 32 levels"
	}
	return ""
}

// flowStep reports whether the token opens (1) or closes (-1) a list or mapping in brackets.
func flowStep(t *token.Token) int {
	if t.Type == token.MappingStartType || t.Type == token.SequenceStartType {
		return 1
	}
	if t.Type == token.MappingEndType || t.Type == token.SequenceEndType {
		return -1
	}
	return 0
}

// entry counts an entry of a list or mapping in block style, and returns the size so far. The column of an entry is
// that of its - or of its key, which is the token before the colon.
func (g *tokenChecker) entry(t *token.Token) int {
	col := t.Position.Column
	if t.Type == token.MappingValueType && t.Prev != nil && t.Prev.Position.Line == t.Position.Line {
		col = t.Prev.Position.Column
	}
	for len(g.block) > 0 && g.block[len(g.block)-1].col > col {
		g.block = g.block[:len(g.block)-1]
	}
	if len(g.block) == 0 || g.block[len(g.block)-1].col < col {
		g.block = append(g.block, level{col: col})
	}
	top := &g.block[len(g.block)-1]
	top.entries++
	return top.entries
}

func tokenPosition(t *token.Token) position {
	if t == nil || t.Position == nil {
		return position{1, 1}
	}
	return position{line: t.Position.Line, col: t.Position.Column}
}
