package node_test

import (
	"testing"

	"millrace/node"
)

func TestSPA(t *testing.T) {
	for text, want := range map[string]string{
		"true": "/index.html", "false": "", "/app.html": "/app.html", "/a/b": "/a/b", "yes": "!", "off": "!", "": "!",
		"app.html": "!", "/": "!", "/a//b": "!", "/a/../b": "!", "/./a": "!", `/a\b`: "!", "/a?b": "!", "/a#b": "!",
		"/a\n": "!",
	} {
		var s node.SPA
		switch err := s.UnmarshalText([]byte(text)); {
		case (err != nil) != (want == "!"):
			t.Errorf("%q gives %v", text, err)
		case err == nil && string(s) != want:
			t.Errorf("%q gives %q", text, s)
		}
		written, err := s.MarshalText()
		var again node.SPA
		if err != nil || again.UnmarshalText(written) != nil || again != s {
			t.Errorf("%q is written %q, %v", s, written, err)
		}
	}
}

func TestSlash(t *testing.T) {
	for text, ok := range map[string]bool{
		"auto": true, "always": true, "never": true, "keep": true, "": false, "no": false,
	} {
		var s node.Slash
		if err := s.UnmarshalText([]byte(text)); (err == nil) != ok {
			t.Errorf("%q gives %v", text, err)
		}
	}
}
