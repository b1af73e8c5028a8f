package node_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"millrace/node"
)

func body(tb testing.TB, text string) (b node.Body) {
	tb.Helper()
	if err := b.UnmarshalJSON([]byte(text)); err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestJSON(t *testing.T) {
	for text, want := range map[string]node.JSON{
		" [ ] ": "[]", "null": "null", `{"a": 1}`: `{"a":1}`, `"a  b"`: `"a  b"`, "": "error", "{": "error",
		"a": "error", "1 2": "error",
	} {
		var j node.JSON
		if err := j.UnmarshalJSON([]byte(text)); (err != nil) != (want == "error") || (err == nil && j != want) {
			t.Errorf("%q: %q, %v", text, j, err)
		}
	}
}

func TestBody(t *testing.T) {
	values := map[string]node.JSON{
		"{id}": `"a\"b\\\n"`, "{user.id}": "7", "{user.ok}": "true", "{user.list}": `[1,"x"]`, "{user.none}": "null",
		"{user.name}": `"{id}"`,
	}
	value := func(r node.Ref) (node.JSON, error) {
		v, ok := values[r.String()]
		if !ok {
			return "", errors.New("unknown")
		}
		return v, nil
	}
	for text, want := range map[string]string{
		`null`: `null`, `7`: `7`, `""`: `""`, ` { "a" : [ 1 , true ] } `: `{"a":[1,true]}`, `"{id}"`: `"a\"b\\\n"`,
		`["{user.list}", "{user.none}"]`:        `[[1,"x"],null]`,
		`{"{id}": "x-{id}-{user.id}{user.ok}"}`: `{"{id}":"x-a\"b\\\n-7true"}`,
		`"\u007bid} {{id}} }}"`:                 `"a\"b\\\n {id} }"`, `"{user.name}, {user.name}"`: `"{id}, {id}"`,
		`"a{user.list}"`: "error", `"a{user.none}"`: "error", `["{nobody}"]`: "error", `"a\"{id}\\"`: `"a\"a\"b\\\n\\"`,
	} {
		got, err := body(t, text).Expand(value)
		if (err != nil) != (want == "error") || (err == nil && string(got) != want) {
			t.Errorf("%s: %s, %v, want %s", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		``: "not JSON", `{`: "not JSON", `"{"`: "{{ or }}", `"a}"`: "{{ or }}", `"{}"`: "{{ or }}",
		`"{a-b}"`: "{{ or }}", `["{user.}"]`: "{{ or }}", `"{{a}"`: "{{ or }}",
	} {
		var b node.Body
		if err := b.UnmarshalJSON([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// A value can't change the shape of the body, whatever it is.
func FuzzBody(f *testing.F) {
	f.Add(`{"a": "{x}", "b": ["y{x}{y.z}", 1]}`, `","b":"`)
	f.Add(`"{{{x}}}"`, `\`)
	f.Add(`{"{x}":"{x}","\u0022":"\\"}`, "\xff")
	f.Fuzz(func(t *testing.T, text, value string) {
		var b node.Body
		if b.UnmarshalJSON([]byte(text)) != nil {
			return
		}
		if again, err := b.MarshalJSON(); err != nil || body(t, string(again)).None() {
			t.Fatalf("%s is written as %s: %v", text, again, err)
		}
		quoted, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		got, err := b.Expand(func(node.Ref) (node.JSON, error) { return node.JSON(quoted), nil })
		if err != nil {
			t.Fatal(err)
		}
		if !sameShape(parsed(t, []byte(text)), parsed(t, got)) {
			t.Errorf("%s with %q is %s", text, value, got)
		}
	})
}

func parsed(tb testing.TB, text []byte) (v any) {
	tb.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber() // numbers may be too large for Go's types
	if err := d.Decode(&v); err != nil {
		tb.Fatalf("%s: %v", text, err)
	}
	return v
}

// sameShape compares JSON values; of strings only that both are strings.
func sameShape(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		other, ok := b.(map[string]any)
		for key := range a {
			value, has := other[key]
			ok = ok && has && sameShape(a[key], value)
		}
		return ok && len(a) == len(other)
	case []any:
		other, ok := b.([]any)
		for i := range a {
			ok = ok && len(a) == len(other) && sameShape(a[i], other[i])
		}
		return ok && len(a) == len(other)
	case string:
		_, ok := b.(string)
		return ok
	}
	return a == b
}
