package config

import (
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// kind is the kind of a value in the file.
type kind string

// The kinds, as they appear in messages.
const (
	kindNothing kind = "nothing"
	kindBool    kind = "true or false"
	kindNumber  kind = "a number"
	kindText    kind = "a text"
	kindList    kind = "a list"
	kindMapping kind = "a mapping"
	kindRefused kind = "refused" // reported by checkTokens
)

// value is a value of the file with its position. It covers the part of YAML that a configuration may use.
type value struct {
	kind    kind
	pos     position
	text    string // of a scalar
	quoted  bool
	items   []*value       // of a list
	entries []entry        // of a mapping, repeated keys included
	index   map[string]int // index of entries by key, built by entryAt
}

// entry is a key of a mapping with its value. If the key is repeated, first is the position of its first use.
type entry struct {
	key   string
	pos   position
	value *value
	first *position
}

// readTree parses the file. It returns nil if there is nothing to decode, and reports why.
func readTree(r *report, data []byte) *value {
	if data = checkBytes(r, data); data == nil && len(r.mistakes) > 0 {
		return nil
	}
	body, ok := parseBody(r, data)
	if !ok {
		return nil
	}
	if body == nil {
		r.add(position{1, 1}, nil, "the file is empty: write at least version: 1")
		return nil
	}
	return convert(r, body)
}

// parseBody returns the first document of the file; nil if that is empty.
func parseBody(r *report, data []byte) (body ast.Node, ok bool) {
	defer func() { // the parser has panicked on invalid input in the past, and a reload must survive any file
		if p := recover(); p != nil {
			r.add(position{1, 1}, nil, "the file is no YAML: the parser gave up on it")
			body, ok = nil, false
		}
	}()
	tokens := repair(lexer.Tokenize(string(data)))
	if !checkTokens(r, tokens) {
		return nil, false
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		reportSyntax(r, data, err)
		return nil, false
	}
	for _, doc := range file.Docs {
		if _, directive := doc.Body.(*ast.DirectiveNode); doc.Body == nil || directive {
			continue
		}
		if body != nil {
			r.add(tokenPosition(doc.Start), nil, "a second document begins here: a configuration is one document; "+
				"remove the ---")
			break
		}
		body = doc.Body
	}
	return body, true
}

// convert converts the parser's tree.
func convert(r *report, n ast.Node) *value {
	v := &value{kind: kindRefused, pos: tokenPosition(n.GetToken())}
	switch n := n.(type) {
	case *ast.NullNode:
		v.kind = kindNothing
	case *ast.BoolNode:
		v.kind, v.text = kindBool, n.Token.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		v.kind, v.text = kindNumber, n.GetToken().Value
	case *ast.StringNode:
		v.kind, v.text, v.quoted = kindText, n.Value, n.Token.Type != token.StringType
	case *ast.LiteralNode:
		v.kind, v.text, v.quoted = kindText, n.Value.Value, true
	case *ast.SequenceNode:
		v.kind = kindList
		for _, item := range n.Values {
			v.items = append(v.items, convert(r, item))
		}
	case *ast.MappingNode:
		v.mapping(r, n.Values)
	case *ast.MappingValueNode:
		v.mapping(r, []*ast.MappingValueNode{n})
	case *ast.AnchorNode:
		return convert(r, n.Value)
	case *ast.TagNode:
		if n.Value != nil {
			return convert(r, n.Value)
		}
	}
	return v
}

// mapping adds the entries. For a mapping in block style, the parser returns the position of its first colon.
func (v *value) mapping(r *report, values []*ast.MappingValueNode) {
	v.kind = kindMapping
	seen := make(map[string]position, len(values))
	for i, mv := range values {
		key, pos, ok := keyOf(mv.Key)
		if i == 0 && v.pos.line >= pos.line && v.pos.col > pos.col {
			v.pos = pos
		}
		if !ok {
			continue
		}
		e := entry{key: key, pos: pos, value: convert(r, mv.Value)}
		if first, again := seen[key]; again {
			e.first = &first
		} else {
			seen[key] = pos
		}
		v.entries = append(v.entries, e)
	}
}

// keyOf returns the text of a key. Keys that checkTokens refuses have none.
func keyOf(key ast.MapKeyNode) (text string, pos position, ok bool) {
	pos = tokenPosition(key.GetToken())
	switch k := key.(type) {
	case *ast.StringNode:
		return k.Value, pos, true
	case *ast.MergeKeyNode, *ast.MappingKeyNode, *ast.AliasNode:
		return "", pos, false
	case *ast.AnchorNode, *ast.TagNode:
		return "", pos, false
	default:
		return strings.TrimSpace(key.GetToken().Value), pos, true
	}
}
