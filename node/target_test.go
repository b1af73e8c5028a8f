package node_test

import (
	"strings"
	"testing"

	"millrace/node"
	"millrace/node/nodetest"
)

func TestTarget(t *testing.T) {
	for input, want := range map[string]string{
		"service:greet": "", "upstream:api": "", "nats:orders.get.{id}": "",
		"": "is not a target", "greet": "is not a target", "service:": "is not a name",
		"service:Greet": "is not a name", "upstream:a.b": "is not a name",
		"nats:": "0 bytes", "nats:a.*": "token", "servic:a": `did you mean "service"?`,
		"http://a": "is the URL of a target", ":a": "is not a kind of target",
	} {
		var target node.Target
		err := target.UnmarshalText([]byte(input))
		nodetest.WantError(t, input, err, want)
		if text, marshalErr := target.MarshalText(); err == nil && (string(text) != input || marshalErr != nil) {
			t.Errorf("%q is written as %q, %v", input, text, marshalErr)
		}
	}
}

func TestCheckName(t *testing.T) {
	for name, valid := range map[string]bool{
		"a": true, "a-b_9": true, strings.Repeat("x", 64): true, "-": true,
		"": false, "A": false, "a.b": false, "a b": false, "é": false, "a/b": false, "*": false,
		strings.Repeat("x", 65): false,
	} {
		if err := node.CheckName(name); (err == nil) != valid || node.ValidName(name) != valid {
			t.Errorf("%q: %v, %t", name, err, node.ValidName(name))
		}
	}
	valid := false
	if n := testing.AllocsPerRun(100, func() { valid = node.ValidName("orders-and-more") }); n != 0 || !valid {
		t.Errorf("ValidName allocates %.0f times", n)
	}
}

func TestBaseURL(t *testing.T) {
	for input, want := range map[string]string{
		"http://127.0.0.1:3000": "http://127.0.0.1:3000", "https://api.example.com/": "https://api.example.com",
		"http://[::1]:80": "http://[::1]:80",
	} {
		var b node.BaseURL
		if err := b.UnmarshalText([]byte(input)); err != nil || string(b) != want {
			t.Errorf("%q gives %q, %v", input, b, err)
		}
	}
	for input, want := range map[string]string{
		"": "is not a target", "127.0.0.1:3000": "is not a target", "localhost": "is not a target",
		"ftp://a": "is not a target", "http://": "is not a target",
		"http://:80": "is not a target", "http://a:": "is not a target", "http://a:0": "is not a target",
		"http://a:65536": "is not a target",
		"http://a:b":     "is not a target", "http://a/b": "has a path or query: write http://a",
		"http://a//": "has a path",
		"http://a?b": "has a path", "http://a?": "has a path", "http://a#b": "has a path", "http://a#": "has a path",
		"http://u@a": "has a user", "http://u:hush@a/b": "has a user", "ftp://u:hush@a": "has a user",
		"http://u:hush@": "has a user",
	} {
		var b node.BaseURL
		err := b.UnmarshalText([]byte(input))
		nodetest.WantError(t, input, err, want)
		if err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("%q: the error shows the password: %v", input, err)
		}
	}
}

func TestUpstreamTargetShortForm(t *testing.T) {
	var target node.UpstreamTarget
	if err := target.UnmarshalText([]byte("http://a:1")); err != nil ||
		target != (node.UpstreamTarget{URL: "http://a:1", Weight: 1}) {
		t.Errorf("got %+v, %v", target, err)
	}
}

func TestLocal(t *testing.T) {
	for input, want := range map[string]string{
		"auto": "", "nearest": "", "nats": "", "Auto": `did you mean "auto"?`,
		"": "is not known",
	} {
		var l node.Local
		nodetest.WantError(t, input, l.UnmarshalText([]byte(input)), want)
	}
}
