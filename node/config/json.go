package config

import (
	"bytes"
	"encoding/json"
	"reflect"
	"regexp"
	"strings"
)

var jsonType = reflect.TypeFor[json.Unmarshaler]()

// readsJSON reports whether values of the type may be any YAML, which is converted to JSON.
func readsJSON(t reflect.Type) bool { return reflect.PointerTo(t).Implements(jsonType) }

// jsonValue decodes a type with UnmarshalJSON.
func (d *decoder) jsonValue(v *value, at keyPath, dst reflect.Value) {
	text, ok := d.appendJSON(nil, v, at)
	if !ok {
		return
	}
	fresh := reflect.New(dst.Type())
	u, ok := reflect.TypeAssert[json.Unmarshaler](fresh)
	if !ok {
		panic("config: no UnmarshalJSON in " + dst.Type().String()) // readsJSON has checked it
	}
	if err := u.UnmarshalJSON(text); err != nil {
		d.add(v.pos, at.path, "%s%s", at.prefix(), err)
		return
	}
	dst.Set(fresh.Elem())
}

var jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

// appendJSON appends a value as JSON, and reports values that can't be converted.
func (d *decoder) appendJSON(b []byte, v *value, at keyPath) ([]byte, bool) {
	switch v.kind {
	case kindNothing:
		return append(b, "null"...), true
	case kindBool:
		return append(b, strings.ToLower(v.text)...), true
	case kindNumber:
		if !jsonNumber.MatchString(v.text) {
			d.add(v.pos, at.path, "%sexpected a number as JSON has it, found %s: write plain digits, such as 100 or "+
				"0.5", at.prefix(), v.text)
			return nil, false
		}
		return append(b, v.text...), true
	case kindText:
		text, _, ok := d.scalar(v, at)
		return appendText(b, text), ok
	case kindList:
		return d.appendList(b, v, at)
	case kindMapping:
		return d.appendMapping(b, v, at)
	case kindRefused:
		d.mistakeTree.add(at.path)
	}
	return nil, false
}

func (d *decoder) appendList(b []byte, v *value, at keyPath) ([]byte, bool) {
	b, good := append(b, '['), true
	for i, item := range v.items {
		if i > 0 {
			b = append(b, ',')
		}
		var ok bool
		b, ok = d.appendJSON(b, item, at.item(i))
		good = good && ok
	}
	return append(b, ']'), good
}

func (d *decoder) appendMapping(b []byte, v *value, at keyPath) ([]byte, bool) {
	b, good := append(b, '{'), true
	for i, e := range v.entries {
		if e.first != nil {
			d.repeated(e, at)
			good = false
		}
		if i > 0 {
			b = append(b, ',')
		}
		var ok bool
		b, ok = d.appendJSON(append(appendText(b, e.key), ':'), e.value, at.key(e.key))
		good = good && ok
	}
	return append(b, '}'), good
}

func appendText(b []byte, s string) []byte {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a text can always be encoded
	return append(b, bytes.TrimSuffix(out.Bytes(), []byte("\n"))...)
}

// flow converts JSON to YAML's flow style, which has other escapes in texts.
func (w *writer) flow(text []byte) string {
	var b strings.Builder
	for len(text) > 0 {
		before, rest, found := bytes.Cut(text, []byte(`"`))
		b.WriteString(flowSpacing.Replace(string(before)))
		if !found {
			break
		}
		end := 0
		for rest[end] != '"' {
			if rest[end] == '\\' {
				end++
			}
			end++
		}
		var s string
		if err := json.Unmarshal(text[len(before):len(before)+end+2], &s); err != nil && w.err == nil {
			w.err = err
		}
		text = rest[end+1:]
		if len(text) == 0 || text[0] != ':' {
			s = escape(s) // names of members have no variables
		}
		b.WriteString(quoted(s))
	}
	return b.String()
}

var flowSpacing = strings.NewReplacer(",", ", ", ":", ": ")
