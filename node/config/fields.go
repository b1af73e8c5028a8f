package config

import (
	"encoding"
	"reflect"
	"slices"
	"strings"
)

// field is one key of a struct type, with the contents of its tags.
type field struct {
	key      string
	doc      string
	required bool
	unless   []string // keys of which any makes this one optional
	zero     string   // what to write instead of 0, which would mean the same as leaving the key out
	index    int
}

// fieldsOf returns the keys of a struct type in the order of its fields; none for a type without yaml tags.
func fieldsOf(t reflect.Type) []field {
	if t.Kind() != reflect.Struct {
		return nil
	}
	var fields []field
	for i := range t.NumField() {
		f := t.Field(i)
		if key := f.Tag.Get("yaml"); f.IsExported() && key != "" && key != inline {
			required := f.Tag.Get("required")
			_, others, _ := strings.Cut(required, "unless")
			fields = append(fields, field{
				key: key, doc: f.Tag.Get("doc"), required: required != "",
				unless: strings.Fields(others), zero: f.Tag.Get("zero"), index: i,
			})
		}
	}
	return fields
}

// namesOf returns the index of the field with the keys that the type doesn't know: names that users choose, such as
// those of sites beside disk and memory. It has the tag yaml:",inline" and is a map.
func namesOf(t reflect.Type) (index int, ok bool) {
	if t.Kind() != reflect.Struct {
		return 0, false
	}
	for i := range t.NumField() {
		if t.Field(i).Tag.Get("yaml") == inline {
			return i, true
		}
	}
	return 0, false
}

const inline = ",inline"

// isOptional reports whether a required field may be left out, because the struct has one of its alternatives.
func (f field) isOptional(fields []field, has func(other field) bool) bool {
	return slices.ContainsFunc(fields, func(other field) bool {
		return slices.Contains(f.unless, other.key) && has(other)
	})
}

// shortField returns the field that the short form of a struct type sets: the first required one.
func shortField(fields []field) field {
	for _, f := range fields {
		if f.required {
			return f
		}
	}
	return fields[0]
}

func keysOf(fields []field) []string {
	keys := make([]string, len(fields))
	for i, f := range fields {
		keys[i] = f.key
	}
	return keys
}

var textType = reflect.TypeFor[encoding.TextUnmarshaler]()

// readsText reports whether values of the type can be written as text: always for types in texts.go, and as a short
// form for a struct with keys.
func readsText(t reflect.Type) bool { return reflect.PointerTo(t).Implements(textType) }

// takesBool reports whether true and false are short forms of the type.
func takesBool(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[interface{ TakesBool() }]())
}

// takesNumber reports whether values of the type may be numbers without quotes.
func takesNumber(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[interface{ TakesNumber() }]())
}

// takesOne reports whether a single element may be written instead of a list of the type.
func takesOne(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Implements(reflect.TypeFor[interface{ TakesOne() }]())
}

// takesOneText reports whether a single text may be written instead of a list of the type.
func takesOneText(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && (t.Elem().Kind() == reflect.String || readsText(t.Elem()))
}

// writesShort reports whether the type has a method for its short form.
func writesShort(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[interface{ Short() (string, bool) }]())
}

// setDefaults sets the type's own defaults.
func setDefaults(dst reflect.Value) {
	if d, ok := reflect.TypeAssert[interface{ Defaults() }](dst.Addr()); ok {
		d.Defaults()
	}
}

// sentence prepares a doc tag for the end of a message.
func sentence(doc string) string { return strings.TrimSuffix(doc, ".") }
