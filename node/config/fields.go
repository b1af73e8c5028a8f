package config

import (
	"encoding"
	"reflect"
	"slices"
	"strings"
)

// field is one key of a struct type, from its tags.
type field struct {
	key      string
	doc      string
	required bool
	unless   []string // the keys with any of which it isn't required
	zero     string   // what to do instead of writing 0, which would be the same as leaving the key out
	index    int
}

// fieldsOf lists the keys of a struct type in the order of its fields; none for a type without yaml tags.
func fieldsOf(t reflect.Type) []field {
	if t.Kind() != reflect.Struct {
		return nil
	}
	var fields []field
	for i := range t.NumField() {
		f := t.Field(i)
		if key := f.Tag.Get("yaml"); f.IsExported() && key != "" {
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

// needless reports whether a required field isn't, since the struct has another that stands in for it, as has says.
func (f field) needless(fields []field, has func(other field) bool) bool {
	return slices.ContainsFunc(fields, func(other field) bool {
		return slices.Contains(f.unless, other.key) && has(other)
	})
}

// shortField returns the field that the short form of a struct type sets: its first required one.
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

// readsText reports whether values of the type are written as text: always for a type of texts.go, and as a short form
// for a struct with keys.
func readsText(t reflect.Type) bool { return reflect.PointerTo(t).Implements(textType) }

// takesBool reports whether true and false are short forms of the type.
func takesBool(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[interface{ TakesBool() }]())
}

// takesNumber reports whether a number without quotes is a text of the type.
func takesNumber(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[interface{ TakesNumber() }]())
}

// takesOne reports whether one element may stand for a list of the type.
func takesOne(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Implements(reflect.TypeFor[interface{ TakesOne() }]())
}

// takesOneText reports whether one text may stand for a list of the type.
func takesOneText(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && (t.Elem().Kind() == reflect.String || readsText(t.Elem()))
}

// writesShort reports whether a type says itself what its short form is.
func writesShort(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[interface{ Short() (string, bool) }]())
}

// setDefaults sets what the type itself says about keys that are left out.
func setDefaults(dst reflect.Value) {
	if d, ok := reflect.TypeAssert[interface{ Defaults() }](dst.Addr()); ok {
		d.Defaults()
	}
}

// sentence makes a doc tag the end of a message.
func sentence(doc string) string { return strings.TrimSuffix(doc, ".") }
