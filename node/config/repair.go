package config

import (
	"slices"
	"unicode/utf8"

	"github.com/goccy/go-yaml/token"
)

// repair joins tokens that the lexer splits wrongly: in a list inside { } it takes any colon for the end of a key,
// although in YAML only a colon before a space is one. {targets: [http://127.0.0.1:3000]} is a list of one text.
func repair(tokens token.Tokens) token.Tokens {
	out := make(token.Tokens, 0, len(tokens))
	flow := 0
	for i := 0; i < len(tokens); i++ {
		t := tokens[i]
		flow += flowStep(t)
		if t.Type != token.MappingValueType || flow <= 0 || i == 0 || i+1 == len(tokens) || !plainScalar(tokens[i+1]) ||
			!adjacent(t, tokens[i+1]) {
			out = append(out, t)
			continue
		}
		next, text, origin, pos := tokens[i+1], ":", ":", t.Position
		switch prev := out[len(out)-1]; {
		case plainScalar(prev) && adjacent(prev, t):
			text, origin, pos = prev.Value+text, prev.Origin+origin, prev.Position
			out = out[:len(out)-1]
		case prev.Type != token.SequenceStartType && prev.Type != token.CollectEntryType:
			out = append(out, t)
			continue
		}
		out = append(out, token.String(text+next.Value, origin+next.Origin, pos))
		i++
	}
	link(out)
	return out
}

var plainTypes = []token.Type{
	token.StringType, token.IntegerType, token.BinaryIntegerType, token.OctetIntegerType, token.HexIntegerType,
	token.FloatType, token.BoolType, token.NullType, token.InfinityType, token.NanType,
}

// plainScalar reports whether the token is a scalar without quotes.
func plainScalar(t *token.Token) bool {
	return slices.Contains(plainTypes, t.Type)
}

// adjacent reports whether b starts where a ends.
func adjacent(a, b *token.Token) bool {
	return a.Position.Line == b.Position.Line && a.Position.Column+utf8.RuneCountInString(a.Value) == b.Position.Column
}

// link sets Prev and Next of every token, which the parser uses.
func link(tokens token.Tokens) {
	for i, t := range tokens {
		t.Prev, t.Next = nil, nil
		if i > 0 {
			t.Prev, tokens[i-1].Next = tokens[i-1], t
		}
	}
}
