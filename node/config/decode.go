package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"millrace/node"
)

// decoder decodes the tree of a file into Go values and continues after mistakes.
type decoder struct {
	*report
	root *value // the whole file
	env  func(string) (string, bool)
	keys map[reflect.Type][]field // results of fieldsOf, which parses tags; a file may have thousands of routes
}

func newDecoder(r *report, root *value, env func(string) (string, bool)) *decoder {
	return &decoder{report: r, root: root, env: env, keys: map[reflect.Type][]field{}}
}

func (d *decoder) fieldsOf(t reflect.Type) []field {
	fields, ok := d.keys[t]
	if !ok {
		fields = fieldsOf(t)
		d.keys[t] = fields
	}
	return fields
}

// value decodes v into dst, which must be addressable. After a mistake dst keeps its value or its defaults.
func (d *decoder) value(v *value, at keyPath, dst reflect.Value) {
	t := dst.Type()
	switch {
	case v.kind == kindRefused:
		d.mistakeTree.add(at.path)
	case t.Kind() == reflect.Pointer:
		fresh := reflect.New(t.Elem())
		d.value(v, at, fresh.Elem())
		dst.Set(fresh)
	case t.Kind() == reflect.Struct && d.fieldsOf(t) != nil && (v.kind == kindMapping || !readsText(t)):
		d.structure(v, at, dst)
	case readsText(t):
		d.text(v, at, dst)
	case readsJSON(t):
		d.jsonValue(v, at, dst)
	case takesOne(t) && v.kind != kindList, takesOneText(t) && v.kind == kindText:
		d.single(v, at, dst)
	default:
		d.plain(v, at, dst)
	}
}

// plain decodes a type without methods of its own.
func (d *decoder) plain(v *value, at keyPath, dst reflect.Value) {
	switch dst.Kind() { //nolint:exhaustive // a configuration has no other kinds
	case reflect.Map:
		d.mapping(v, at, dst)
	case reflect.Slice:
		d.list(v, at, dst)
	case reflect.String:
		d.str(v, at, dst)
	case reflect.Bool:
		d.boolean(v, at, dst)
	case reflect.Int:
		d.integer(v, at, dst)
	default:
		panic(fmt.Sprintf("config: no rule for %s at %s", dst.Type(), at.name)) // node has a field of a new type
	}
}

// expect reports a value of the wrong kind, with a hint if it isn't empty.
func (d *decoder) expect(v *value, at keyPath, want, hint string) {
	found := string(v.kind)
	if v.kind == kindBool {
		found = v.text
	}
	if v.kind == kindNothing && hint == "" {
		hint = "write a value, or leave the key out"
	}
	if hint != "" {
		hint = ": " + hint
	}
	d.add(v.pos, at.path, "%sexpected %s, found %s%s", at.prefix(), want, found, hint)
}

// structure decodes a mapping into a struct, key by key. Keys that are left out keep their defaults.
func (d *decoder) structure(v *value, at keyPath, dst reflect.Value) {
	setDefaults(dst)
	if v.kind != kindMapping {
		d.expect(v, at, "a mapping (key: value)", mappingHint(v))
		return
	}
	fields := d.fieldsOf(dst.Type())
	present := make(map[string]bool, len(v.entries))
	for _, e := range v.entries {
		present[e.key] = true
	}
	for _, e := range v.entries {
		i := slices.IndexFunc(fields, func(f field) bool { return f.key == e.key })
		switch {
		case d.taken(e, i, at, fields, dst.Type()), i < 0 && d.named(e, at, fields, dst):
			continue
		case i < 0:
			d.unknown(e, at, fields, present, dst)
			continue
		}
		marked := len(d.paths)
		d.entry(e, at, dst.Field(fields[i].index))
		if f := fields[i]; f.zero != "" && len(d.paths) == marked && dst.Field(f.index).IsZero() {
			d.add(e.value.pos, at.key(f.key).path, "%s0 would be the same as none: %s", at.key(f.key).prefix(), f.zero)
		}
	}
	for _, f := range fields {
		if f.required && !present[f.key] && !d.hasAlternative(f, at, dst) {
			d.add(v.pos, at.key(f.key).path, "missing key %q %s: %s", f.key, at.in(), sentence(f.doc))
		}
	}
}

// named decodes an entry whose key is a name that the user chooses, if the struct has such. A near miss of one of the
// struct's own keys is none, unless it has a mapping, as what is named has.
func (d *decoder) named(e entry, at keyPath, fields []field, dst reflect.Value) bool {
	index, ok := namesOf(dst.Type())
	if !ok {
		return false
	}
	keys := keysOf(fields)
	before, _, _ := strings.Cut(e.key, ":")
	_, foreign := findForeignKey(dst.Type(), e.key)
	if e.value.kind != kindMapping &&
		(foreign || slices.Contains(keys, before) || node.Nearest(e.key, keys) != "") {
		return false
	}
	names := dst.Field(index)
	if names.IsNil() {
		names.Set(reflect.MakeMap(names.Type()))
	}
	d.mapEntry(e, at, names)
	return true
}

// taken reports an entry that is meant to name something, but whose name is one of the struct's own keys: that of field
// i.
func (d *decoder) taken(e entry, i int, at keyPath, fields []field, t reflect.Type) bool {
	_, names := namesOf(t)
	if !names || i < 0 || e.value.kind != kindMapping || fieldsOf(t.Field(fields[i].index).Type) != nil {
		return false
	}
	meant := at.key(e.key)
	d.expect(e.value, meant, oneOf(expectedForms(t.Field(fields[i].index).Type, meant)),
		e.key+" is a key of its own here, and can't be a name")
	return true
}

// hasAlternative reports whether the mapping has a key that makes a required one unnecessary.
func (d *decoder) hasAlternative(f field, at keyPath, dst reflect.Value) bool {
	return f.isOptional(d.fieldsOf(dst.Type()), func(other field) bool {
		return !dst.Field(other.index).IsZero() || d.mistaken(at.key(other.key).path...)
	})
}

// unknown reports a key that the struct doesn't have. If it resembles a key that the mapping lacks, its value is
// decoded for that one without further reports, so that the typo causes no follow-up mistakes.
func (d *decoder) unknown(e entry, at keyPath, fields []field, present map[string]bool, dst reflect.Value) {
	keys := keysOf(fields)
	if before, _, found := strings.Cut(e.key, ":"); found && slices.Contains(keys, before) {
		d.add(e.pos, at.key(before).path, "unknown key %q %s: is a space missing after the colon?", displayKey(e.key),
			at.in())
		present[before] = true
		return
	}
	if t, ok := findForeignKey(dst.Type(), e.key); ok {
		d.add(e.pos, at.key(e.key).path, "unknown key %q %s: %s", e.key, at.in(), t.advice)
		if t.key != "" && !present[t.key] {
			present[t.key] = true
			d.mistakeTree.add(at.key(t.key).path)
		}
		return
	}
	nearest := node.Nearest(e.key, keys)
	if nearest == "" {
		d.add(e.pos, at.key(e.key).path, "unknown key %q %s: use %s", displayKey(e.key), at.in(), oneOf(keys))
		return
	}
	d.add(e.pos, at.key(e.key).path, "unknown key %q %s: did you mean %q?", displayKey(e.key), at.in(), nearest)
	if present[nearest] {
		return
	}
	present[nearest] = true
	meant := at.key(nearest)
	d.mistakeTree.add(meant.path)
	d.quiet++
	d.value(e.value, meant, dst.Field(fields[slices.Index(keys, nearest)].index))
	d.quiet--
}

// entry decodes an entry. The value of a repeated key is checked but not used.
func (d *decoder) entry(e entry, at keyPath, dst reflect.Value) {
	if e.first == nil {
		d.value(e.value, at.key(e.key), dst)
		return
	}
	d.repeated(e, at)
	trusted := len(d.paths)
	d.value(e.value, at.key(e.key), reflect.New(dst.Type()).Elem())
	d.undo(trusted) // the first value is the one in use
}

// repeated reports a key that is given twice.
func (d *decoder) repeated(e entry, at keyPath) {
	d.add(e.pos, nil, "key %q is given twice %s: lines %d and %d", displayKey(e.key), at.in(), e.first.line, e.pos.line)
}

func (d *decoder) mapping(v *value, at keyPath, dst reflect.Value) {
	if v.kind != kindMapping {
		d.expect(v, at, "a mapping (name: value)", mappingHint(v))
		return
	}
	dst.SetZero()
	if len(v.entries) > 0 {
		dst.Set(reflect.MakeMapWithSize(dst.Type(), len(v.entries)))
	}
	for _, e := range v.entries {
		d.mapEntry(e, at, dst)
	}
}

// mapEntry decodes an entry into a map.
func (d *decoder) mapEntry(e entry, at keyPath, dst reflect.Value) {
	elem := reflect.New(dst.Type().Elem()).Elem()
	d.entry(e, at, elem)
	if e.first == nil {
		dst.SetMapIndex(reflect.ValueOf(e.key).Convert(dst.Type().Key()), elem)
	}
}

func (d *decoder) list(v *value, at keyPath, dst reflect.Value) {
	if v.kind != kindList {
		d.expect(v, at, "a list", listHint(v))
		return
	}
	dst.SetZero()
	if len(v.items) > 0 {
		dst.Set(reflect.MakeSlice(dst.Type(), len(v.items), len(v.items)))
	}
	for i, item := range v.items {
		d.value(item, at.item(i), dst.Index(i))
	}
}

// single decodes a single element that is written without its list.
func (d *decoder) single(v *value, at keyPath, dst reflect.Value) {
	if parts := strings.Split(v.text, ","); len(parts) > 1 && takesOneText(dst.Type()) {
		for i := range parts {
			parts[i] = strings.TrimSpace(parts[i])
		}
		d.expect(v, at, "a list", "write ["+strings.Join(parts, ", ")+"]")
		return
	}
	list := reflect.MakeSlice(dst.Type(), 1, 1)
	d.value(v, at.singleItem(), list.Index(0))
	dst.Set(list)
}

func mappingHint(v *value) string {
	if v.kind == kindText && !v.quoted && strings.Contains(v.text, ":") {
		return "is a space missing after the colon?"
	}
	return ""
}

// textHint says what to do where a text is expected and a list is found.
func textHint(v *value, t reflect.Type) string {
	if v.kind == kindList && t == reflect.TypeFor[node.Target]() {
		return "try takes several, sites first"
	}
	return ""
}

func listHint(v *value) string {
	switch v.kind { //nolint:exhaustive // the other kinds have no hint
	case kindMapping:
		return "begin each item with -"
	case kindText:
		return "put it in brackets, or on a line of its own after -"
	}
	return ""
}

func oneOf(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}
