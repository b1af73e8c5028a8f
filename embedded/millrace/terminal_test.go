package main

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// A screen escapes what a terminal would execute, and passes everything else unchanged.
func TestScreen(t *testing.T) {
	for in, want := range map[string]string{
		"as it is: Ünïcödé 日本 \t|\n":        "as it is: Ünïcödé 日本 \t|\n",
		"\x1b]0;owned\x07\r\n":              `\u001b]0;owned\u0007\u000d` + "\n",
		"\x7f \u009b31m \u202e \u2066 \x00": `\u007f \u009b31m \u202e \u2066 \u0000`,
		"\x9b31m \xff\xc3":                  `\x9b31m \xff\xc3`,
		"\u2028\u2029\ufeff\u200b":          `\u2028\u2029\ufeff\u200b`,
		"\U000e0041":                        `\udb40\udc41`,
		"\ufffd":                            "\ufffd",
	} {
		var out bytes.Buffer
		if n, err := newScreen(newScreen(&out)).Write([]byte(in)); err != nil || n != len(in) {
			t.Errorf("%q: wrote %d, %v", in, n, err)
		}
		if got := out.String(); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

// JSON that passes a screen decodes to the same value.
func FuzzScreen(f *testing.F) {
	for _, s := range []string{"", "plain", "\x1b[2J", "\u009b\u202e", "\U000e0041\xff", "日本\x7f"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		out := escapeControls([]byte(s))
		for _, r := range string(out) {
			if r != '\n' && r != '\t' && (unicode.Is(unicode.Cc, r) || unicode.Is(unicode.Cf, r)) {
				t.Fatalf("%q becomes %q", s, out)
			}
		}
		if !utf8.Valid(out) {
			t.Fatalf("%q becomes %q", s, out)
		}
		if !utf8.ValidString(s) {
			return
		}
		var plain bytes.Buffer
		enc := json.NewEncoder(&plain)
		enc.SetEscapeHTML(false)
		if err := enc.Encode([]string{s}); err != nil {
			t.Fatal(err)
		}
		var before, after []string
		if err := json.Unmarshal(plain.Bytes(), &before); err != nil {
			t.Fatal(err)
		}
		err := json.Unmarshal(escapeControls(plain.Bytes()), &after)
		if err != nil || !reflect.DeepEqual(before, after) {
			t.Fatalf("%q becomes %q (%v)", before, after, err)
		}
	})
}

// A line is colored on terminals only, and its text can't change that.
func TestPrintLine(t *testing.T) {
	var out strings.Builder
	err := printLine(newScreen(&out), "a\x1b[1m ", red, "503", " \u009bb")
	if err != nil || out.String() != `a\u001b[1m 503 \u009bb`+"\n" {
		t.Errorf("printed %q, %v", out.String(), err)
	}
}
