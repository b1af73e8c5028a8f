package config

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"millrace/node"
)

// Schema returns the JSON Schema (draft 2020-12) of the configuration file, indented, for editors and CI. It is
// generated from the types that Parse decodes into. It can't check what needs the whole file (undeclared upstreams,
// ambiguous routes): a file that matches the schema may still have mistakes, but every file that Parse accepts matches.
func Schema() []byte {
	g := &generator{defs: members[*schema]{}}
	root := g.object(reflect.TypeFor[node.Config](), reflect.ValueOf(node.Default()))
	root.Dialect = "https://json-schema.org/draft/2020-12/schema"
	root.Title = "Millrace configuration (millrace.yaml)"
	g.define("Variable", &schema{
		Type: "string", Description: "A text with a variable of the environment: ${NAME} or ${NAME:-default}.",
		Pattern: variablePattern,
	})
	root.Defs = g.defs
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(root); err != nil {
		panic(fmt.Sprintf("config: schema: %v", err)) // the types don't fit the schema; a test would have found it
	}
	return b.Bytes()
}

const variablePattern = `\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}`

// schema is the part of JSON Schema that the configuration needs.
type schema struct {
	Dialect     string           `json:"$schema,omitempty"`
	Title       string           `json:"title,omitempty"`
	Ref         string           `json:"$ref,omitempty"`
	Description string           `json:"description,omitempty"`
	Type        string           `json:"type,omitempty"`
	Default     any              `json:"default,omitempty"`
	Enum        []string         `json:"enum,omitempty"`
	Pattern     string           `json:"pattern,omitempty"`
	Examples    []string         `json:"examples,omitempty"`
	OneOf       []*schema        `json:"oneOf,omitempty"`
	AnyOf       []*schema        `json:"anyOf,omitempty"`
	Items       *schema          `json:"items,omitempty"`
	Properties  members[*schema] `json:"properties,omitempty"`
	Additional  any              `json:"additionalProperties,omitempty"` // false, or a *schema
	Required    []string         `json:"required,omitempty"`
	Defs        members[*schema] `json:"$defs,omitempty"`
}

// members is a JSON object with an order.
type members[T any] []member[T]

type member[T any] struct {
	name  string
	value T
}

// MarshalJSON encodes the members in order.
func (ms members[T]) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, m := range ms {
		if i > 0 {
			b = append(b, ',')
		}
		name, err := json.Marshal(m.name)
		if err != nil {
			return nil, err
		}
		var value bytes.Buffer
		enc := json.NewEncoder(&value)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(m.value); err != nil {
			return nil, err
		}
		b = append(append(append(b, name...), ':'), value.Bytes()...)
	}
	return append(b, '}'), nil
}

// generator walks the types like decoder and stores named types as definitions.
type generator struct{ defs members[*schema] }

// define adds a definition unless it exists, and returns a reference to it.
func (g *generator) define(name string, s *schema) *schema {
	for _, m := range g.defs {
		if m.name == name {
			return reference(name)
		}
	}
	g.defs = append(g.defs, member[*schema]{name, s})
	return reference(name)
}

func reference(name string) *schema { return &schema{Ref: "#/$defs/" + name} }

// of returns the schema of a type. defaults is its value if the key is left out.
func (g *generator) of(t reflect.Type, defaults reflect.Value) *schema {
	switch {
	case t.Kind() == reflect.Pointer:
		return g.of(t.Elem(), defaultOf(t.Elem()))
	case fieldsOf(t) != nil:
		return g.structure(t, defaults)
	case readsText(t):
		text := g.define(t.Name(), textSchema(t))
		switch {
		case takesNumber(t):
			return &schema{OneOf: []*schema{text, {Type: "integer"}}}
		case takesBool(t):
			return &schema{OneOf: []*schema{text, {Type: "boolean"}}}
		}
		return text
	case readsJSON(t):
		return &schema{}
	}
	switch t.Kind() { //nolint:exhaustive // a configuration has no other kinds
	case reflect.Map:
		return &schema{Type: "object", Additional: g.of(t.Elem(), defaultOf(t.Elem()))}
	case reflect.Slice:
		return g.list(t)
	case reflect.String:
		return &schema{Type: "string"}
	case reflect.Bool:
		return &schema{OneOf: []*schema{{Type: "boolean"}, reference("Variable")}}
	case reflect.Int:
		return &schema{OneOf: []*schema{{Type: "integer"}, reference("Variable")}}
	default:
		panic("config: no rule for " + t.String()) // node has a field of a new type
	}
}

// list returns the schema of a list; of both forms, if a single element may be written instead.
func (g *generator) list(t reflect.Type) *schema {
	item := func() *schema { return g.of(t.Elem(), defaultOf(t.Elem())) }
	list := &schema{Type: "array", Items: item()}
	switch {
	case !takesOne(t) && !takesOneText(t):
		return list
	case !takesOne(t) && fieldsOf(t.Elem()) != nil:
		return &schema{OneOf: []*schema{g.short(t.Elem()), list}}
	}
	one := item()
	if one.OneOf == nil {
		return &schema{OneOf: []*schema{one, list}}
	}
	return &schema{OneOf: append(one.OneOf, list)}
}

// structure returns a reference to the definition of a struct. A struct with a short form may be written in either
// form.
func (g *generator) structure(t reflect.Type, defaults reflect.Value) *schema {
	object := g.define(t.Name(), g.object(t, defaults))
	if !readsText(t) {
		return object
	}
	forms := []*schema{g.short(t), object}
	if takesBool(t) {
		forms = append(forms, &schema{Type: "boolean"})
	}
	return &schema{OneOf: forms}
}

// short returns the schema of a struct's short form: its own, or that of the field that it sets.
func (g *generator) short(t reflect.Type) *schema {
	if _, ok := textRules[t]; ok {
		return g.define(t.Name()+"Text", textSchema(t))
	}
	field := t.Field(shortField(fieldsOf(t)).index).Type
	return g.of(field, defaultOf(field))
}

func (g *generator) object(t reflect.Type, defaults reflect.Value) *schema {
	s := &schema{Type: "object", Additional: false}
	if index, ok := namesOf(t); ok {
		elem := t.Field(index).Type.Elem()
		s.Additional = g.of(elem, defaultOf(elem))
	}
	for _, f := range fieldsOf(t) {
		standard := defaults.Field(f.index)
		p := g.of(standard.Type(), standard)
		p.Description = f.doc
		if !standard.IsZero() && fieldsOf(standard.Type()) == nil && !f.required {
			p.Default = jsonValue(standard)
		}
		switch {
		case len(f.unless) > 0:
			for _, key := range append([]string{f.key}, f.unless...) {
				s.AnyOf = append(s.AnyOf, &schema{Required: []string{key}})
			}
		case f.required:
			s.Required = append(s.Required, f.key)
		}
		s.Properties = append(s.Properties, member[*schema]{f.key, p})
	}
	return s
}

func textSchema(t reflect.Type) *schema {
	rule := textRules[t]
	s := &schema{
		Type: "string", Description: strings.ToUpper(rule.want[:1]) + rule.want[1:] + ".",
		Examples: rule.examples,
	}
	if rule.enum != nil {
		s.OneOf = []*schema{{Enum: rule.enum}, reference("Variable")}
	} else {
		s.Pattern = "^(" + rule.pattern + ")$|" + variablePattern
	}
	return s
}

// jsonValue returns a default as it is written in a file.
func jsonValue(v reflect.Value) any {
	if d, ok := reflect.TypeAssert[node.Duration](v); ok {
		return shortDuration(d)
	}
	if m, ok := reflect.TypeAssert[encoding.TextMarshaler](v); ok {
		text, err := m.MarshalText()
		if err != nil {
			panic(fmt.Sprintf("config: default of %s: %v", v.Type(), err)) // a bug in node's defaults
		}
		return string(text)
	}
	if takesOne(v.Type()) && v.Len() == 1 {
		return jsonValue(v.Index(0))
	}
	return v.Interface()
}
