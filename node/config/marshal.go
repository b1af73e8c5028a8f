package config

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"millrace/node"
)

// Marshal writes the shortest file that Parse reads back as an equal configuration: the values that differ from the
// defaults, and the required keys. Tokens are written in clear. It fails only if a text isn't UTF-8; it doesn't check
// whether the configuration is valid.
func Marshal(c *node.Config) ([]byte, error) {
	w := &writer{}
	w.structure("", reflect.ValueOf(c).Elem(), reflect.ValueOf(node.Default()))
	if w.err != nil {
		return nil, fmt.Errorf("write configuration: %w", w.err)
	}
	return w.out, nil
}

// writer writes YAML in block style, with two spaces per level. err is the first error.
type writer struct {
	out []byte
	err error
}

func (w *writer) print(parts ...string) {
	for _, part := range parts {
		w.out = append(w.out, part...)
	}
}

// structure writes the keys of a struct that differ from the defaults. It reports whether there were any.
func (w *writer) structure(indent string, v, defaults reflect.Value) bool {
	wrote := false
	for _, f := range fieldsOf(v.Type()) {
		value, def := v.Field(f.index), defaults.Field(f.index)
		if !f.isWritten(v) && same(value, def) {
			continue
		}
		w.print(indent, f.key, ":")
		w.value(indent, value, def)
		wrote = true
	}
	if index, ok := namesOf(v.Type()); ok {
		wrote = w.mapping(indent, v.Field(index)) || wrote
	}
	return wrote
}

// value writes what follows the colon of a key, up to the end of the line or of the lines below.
func (w *writer) value(indent string, v, defaults reflect.Value) {
	if text, ok := w.scalar(v); ok {
		w.print(" ", text, "\n")
		return
	}
	if short, ok := w.shortForm(v); ok {
		w.print(" ", short, "\n")
		return
	}
	if takesOne(v.Type()) && v.Len() == 1 {
		w.value(indent, v.Index(0), defaultOf(v.Type().Elem()))
		return
	}
	deeper := indent + "  "
	switch v.Kind() { //nolint:exhaustive // a configuration has no other kinds
	case reflect.Pointer:
		w.value(indent, v.Elem(), defaultOf(v.Type().Elem()))
	case reflect.Struct:
		w.nested(func(below *writer) bool { return below.structure(deeper, v, defaults) }, "{}")
	case reflect.Map:
		w.nested(func(below *writer) bool { return below.mapping(deeper, v) }, "{}")
	case reflect.Slice:
		w.nested(func(below *writer) bool { return below.list(deeper, v) }, "[]")
	default:
		panic("config: no rule for " + v.Type().String()) // node has a field of a new type
	}
}

// isWritten reports whether the file needs the key, whatever its value.
func (f field) isWritten(v reflect.Value) bool {
	return f.required && !f.isOptional(fieldsOf(v.Type()), func(other field) bool {
		return !v.Field(other.index).IsZero()
	})
}

// shortForm returns the short form of a type that has a method for it.
func (w *writer) shortForm(v reflect.Value) (string, bool) {
	if !writesShort(v.Type()) {
		return "", false
	}
	pointer := reflect.New(v.Type()) // a map's value isn't addressable
	pointer.Elem().Set(v)
	s, ok := reflect.TypeAssert[interface{ Short() (string, bool) }](pointer)
	if !ok {
		return "", false
	}
	text, ok := s.Short()
	switch {
	case !ok:
		return "", false
	case text == "":
		return w.scalar(v.Field(shortField(fieldsOf(v.Type())).index))
	case takesBool(v.Type()):
		return text, true // with quotes it would be a text
	}
	return w.quote(escape(text), false), true
}

// nested writes lines below the key, or the empty form if there are none.
func (w *writer) nested(write func(*writer) bool, empty string) {
	below := &writer{err: w.err}
	wrote := write(below)
	w.err = below.err
	if !wrote {
		w.print(" ", empty, "\n")
		return
	}
	w.print("\n", string(below.out))
}

func (w *writer) mapping(indent string, v reflect.Value) bool {
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	for _, key := range keys {
		w.print(indent, w.quote(key.String(), true), ":")
		w.value(indent, v.MapIndex(key), defaultOf(v.Type().Elem()))
	}
	return len(keys) > 0
}

// list writes one item after each dash, the first key of a mapping on the dash's line.
func (w *writer) list(indent string, v reflect.Value) bool {
	for i := range v.Len() {
		item := &writer{err: w.err}
		if text, ok := item.short(v.Index(i)); ok {
			item.print(indent, "  ", text, "\n")
		} else if !item.structure(indent+"  ", v.Index(i), defaultOf(v.Type().Elem())) {
			item.print(indent, "  {}\n")
		}
		w.err = item.err
		w.print(indent, "- ", strings.TrimPrefix(string(item.out), indent+"  "))
	}
	return v.Len() > 0
}

// short writes a scalar, or the short form of a struct whose other values are the defaults.
func (w *writer) short(v reflect.Value) (string, bool) {
	fields := fieldsOf(v.Type())
	switch {
	case fields == nil:
		return w.scalar(v)
	case writesShort(v.Type()):
		return w.shortForm(v)
	case !readsText(v.Type()):
		return "", false
	}
	rest, field := defaultOf(v.Type()), shortField(fields)
	rest.Field(field.index).Set(v.Field(field.index))
	if !same(rest, v) {
		return "", false
	}
	return w.scalar(v.Field(field.index))
}

// scalar returns the text of a scalar value.
func (w *writer) scalar(v reflect.Value) (string, bool) {
	if d, ok := reflect.TypeAssert[node.Duration](v); ok {
		return shortDuration(d), true
	}
	if m, ok := reflect.TypeAssert[encoding.TextMarshaler](v); ok && fieldsOf(v.Type()) == nil {
		text, err := m.MarshalText()
		if w.err == nil {
			w.err = err
		}
		if takesNumber(v.Type()) && wholeNumber.Match(text) {
			return string(text), true
		}
		return w.quote(string(text), false), true
	}
	if m, ok := reflect.TypeAssert[json.Marshaler](v); ok {
		text, err := m.MarshalJSON()
		if w.err == nil {
			w.err = err
		}
		return w.flow(text), true
	}
	switch v.Kind() { //nolint:exhaustive // a configuration has no other kinds
	case reflect.String:
		return w.quote(escape(v.String()), false), true
	case reflect.Bool:
		return strconv.FormatBool(v.Bool()), true
	case reflect.Int:
		return strconv.FormatInt(v.Int(), 10), true
	default:
		return "", false
	}
}

// defaultOf returns the value of an empty mapping of the type.
func defaultOf(t reflect.Type) reflect.Value {
	v := reflect.New(t).Elem()
	if t.Kind() == reflect.Struct {
		setDefaults(v)
	}
	return v
}

// same compares values. An empty list or mapping equals none.
func same(a, b reflect.Value) bool {
	if k := a.Kind(); k == reflect.Slice || k == reflect.Map {
		if a.Len() == 0 && b.Len() == 0 {
			return true
		}
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}
