package node_test

import (
	"strings"
	"testing"

	"millrace/node"
)

func TestProtocol(t *testing.T) {
	for text, want := range map[string]node.Protocol{
		"spdy/3.1": "spdy/3.1", "SPDY/3.1": "spdy/3.1", "tcp": "tcp",
		"irc/6.9": "irc/6.9", "x-own": "x-own",
	} {
		var p node.Protocol
		if err := p.UnmarshalText([]byte(text)); err != nil || p != want {
			t.Errorf("%s: %q, %v", text, p, err)
		}
	}
	for text, why := range map[string]string{
		"": "write a name", "/": "write a name", "spdy/": "write a name", "/3.1": "write a name", "a b": "write a name",
		"a/b/c": "write a name", "a,b": "write a name",
		"a\r\nb": "write a name", strings.Repeat("a", 65): "write a name", "WebSocket": "always pass",
		"h2c": "past everything", "HTTP/2.0": "past everything",
		"TLS/1.0": "past everything", "messages": "not known",
	} {
		var p node.Protocol
		if err := p.UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: %q, %v", text, p, err)
		}
	}
	list := node.Protocols{"spdy/3.1", "tcp"}
	for name, want := range map[string]bool{"SPDY/3.1": true, "tcp": true, "spdy": false, "": false, "spdy/3": false} {
		if list.Has(name) != want {
			t.Errorf("%q is listed: %t", name, !want)
		}
	}
}
