package config

import (
	"cmp"
	"encoding"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
)

// scalar returns the text of a scalar with its variables replaced, and whether there were any. It reports errors.
func (d *decoder) scalar(v *value, at keyPath) (text string, used, ok bool) {
	if v.kind != kindText {
		return v.text, false, true
	}
	text, used, err := substitute(v.text, d.env)
	if err != nil {
		d.add(v.pos, at.path, "%s%s", at.prefix(), err)
		return "", used, false
	}
	return text, used, true
}

// text decodes a type with UnmarshalText. It also passes numbers to it, because its message says best what is missing,
// usually the unit; but it doesn't accept them.
func (d *decoder) text(v *value, at keyPath, dst reflect.Value) {
	want := func() string { return oneOf(expectedForms(dst.Type(), at)) }
	if v.kind != kindText && v.kind != kindNumber && (v.kind != kindBool || !takesBool(dst.Type())) {
		d.expect(v, at, want(), textHint(v, dst.Type()))
		return
	}
	text, _, ok := d.scalar(v, at)
	if !ok {
		return
	}
	fresh := reflect.New(dst.Type())
	if err := unmarshal(fresh, text); err != nil {
		if hint := d.targetHint(dst.Type(), text); hint != nil {
			err = hint
		}
		d.add(v.pos, at.path, "%s%s", at.prefix(), err)
		return
	}
	if v.kind == kindNumber && !takesNumber(dst.Type()) {
		d.expect(v, at, want(), "put it in quotes")
		return
	}
	dst.Set(fresh.Elem())
}

// expectedForms returns the forms in which a type with UnmarshalText can be written.
func expectedForms(t reflect.Type, at keyPath) []string {
	var forms []string
	if takesBool(t) {
		forms = append(forms, "true")
	}
	rule, ok := textRules[t]
	fields := fieldsOf(t)
	if !ok && fields != nil {
		rule = textRules[t.Field(shortField(fields).index).Type]
	}
	forms = append(forms, cmp.Or(rule.want, "a text"))
	if fields != nil {
		forms = append(forms, "a mapping")
	}
	if at.single {
		forms = append(forms, "a list")
	}
	return forms
}

// unmarshal calls UnmarshalText of the pointer; readsText has checked that it has it.
func unmarshal(pointer reflect.Value, text string) error {
	u, ok := reflect.TypeAssert[encoding.TextUnmarshaler](pointer)
	if !ok {
		panic("config: no UnmarshalText in " + pointer.Type().String())
	}
	return u.UnmarshalText([]byte(text))
}

func (d *decoder) str(v *value, at keyPath, dst reflect.Value) {
	if v.kind != kindText {
		d.expect(v, at, "a text", quoteHint(v, at))
		return
	}
	text, _, ok := d.scalar(v, at)
	if !ok {
		return
	}
	if isSecret(at) {
		secret, err := readSecret(text)
		if err != nil {
			d.add(v.pos, at.path, "%s%s", at.prefix(), err)
			return
		}
		text = secret
	}
	dst.SetString(text)
}

func quoteHint(v *value, at keyPath) string {
	if (v.kind == kindNumber || v.kind == kindBool) && !isSecret(at) {
		return fmt.Sprintf("put it in quotes, %q", v.text)
	}
	return ""
}

// boolean accepts true and false. The others of YAML 1.1 get a hint, since many parsers accept them.
func (d *decoder) boolean(v *value, at keyPath, dst reflect.Value) {
	text, used, ok := d.scalar(v, at)
	if !ok {
		return
	}
	low := strings.ToLower(text)
	switch {
	case (v.kind == kindBool || used) && low == "true":
		dst.SetBool(true)
	case (v.kind == kindBool || used) && low == "false":
		dst.SetBool(false)
	case v.kind != kindText:
		d.expect(v, at, "true or false", "")
	case low == "yes" || low == "on" || low == "y":
		d.expect(v, at, "true or false", "write true instead of "+text)
	case low == "no" || low == "off" || low == "n":
		d.expect(v, at, "true or false", "write false instead of "+text)
	case low == "true" || low == "false":
		d.expect(v, at, "true or false", "write it without quotes")
	default:
		d.expect(v, at, "true or false", "")
	}
}

var wholeNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)

// integer accepts whole numbers in plain digits. Parsers disagree about 010, 0x10 and 1_000.
func (d *decoder) integer(v *value, at keyPath, dst reflect.Value) {
	text, used, ok := d.scalar(v, at)
	if !ok {
		return
	}
	digits := wholeNumber.MatchString(text)
	switch {
	case digits && (v.kind == kindNumber || used || !v.quoted):
		n, err := strconv.Atoi(text)
		if err != nil {
			d.add(v.pos, at.path, "%s%s is out of range: use at most %d digits", at.prefix(), text, 18)
			return
		}
		dst.SetInt(int64(n))
	case digits:
		d.expect(v, at, "a whole number", "write it without quotes")
	case v.kind == kindNumber:
		d.add(v.pos, at.path, "%sexpected a whole number, found %s: write plain digits, such as 100", at.prefix(), text)
	default:
		d.expect(v, at, "a whole number", "")
	}
}
