package admin_test

import (
	"testing"

	"millrace/edge/admin"
)

// Text of a client is printed as it is only if all of it is visible.
func TestShowEscapesWhatIsNotVisible(t *testing.T) {
	for in, want := range map[string]string{
		"products": "products", "/a/b?c=d": "/a/b?c=d", "Ünïcödé 日本": "Ünïcödé 日本", "two words": "two words",
		"": `""`, " a": `" a"`, "a ": `"a "`, `"a"`: `"\"a\""`,
		"a\x1b]0;owned\x07": `"a\x1b]0;owned\a"`, "a\nready  true": `"a\nready  true"`, "a\tb": `"a\tb"`,
		"\x7f":      `"\x7f"`,
		"\u009b31m": `"\u009b31m"`, "abc\u202etxt": `"abc\u202etxt"`, "\u2028": `"\u2028"`,
		"\xff": `"\xff"`, "\ufffd": `"�"`, "a\u200bb": `"a\u200bb"`,
	} {
		if got := admin.Show(in); got != want {
			t.Errorf("%q is shown as %s, want %s", in, got, want)
		}
	}
	if got := admin.ShowLines("a:1:2: wrong\n  \x1b[2J\n\nb  \n",
		"> "); got != "a:1:2: wrong\n>   \"\\x1b[2J\"\n> \n> b" {
		t.Errorf("lines are shown as %q", got)
	}
}

// A purge's description names what it invalidates, quoted where needed.
func TestPurgeIsShown(t *testing.T) {
	for want, p := range map[string]admin.Purge{
		`tag products`:                {Tag: "products"},
		`soft tag "\x1b[2Jproducts"`:  {Tag: "\x1b[2Jproducts", Soft: true},
		`url http://a/b`:              {URL: "http://a/b"},
		`prefix "http://a/b\nall: x"`: {Prefix: "http://a/b\nall: x"},
		`host "a\u202eb"`:             {Host: "a\u202eb"},
		`all`:                         {All: true},
	} {
		if got := p.String(); got != want {
			t.Errorf("%+v is told as %s, want %s", p, got, want)
		}
	}
}
