package node_test

import (
	"strings"
	"testing"

	"millrace/node"
)

func TestBalance(t *testing.T) {
	for text, want := range map[string]node.Balance{
		"least": {}, "hash:ip": {Hash: node.HashIP}, "hash:path": {Hash: node.HashPath},
		"hash:header:X-User":  {Hash: node.HashHeader, Name: "X-User"},
		"hash:cookie:session": {Hash: node.HashCookie, Name: "session"},
	} {
		var b node.Balance
		if err := b.UnmarshalText([]byte(text)); err != nil || b != want || b.String() != text {
			t.Errorf("%s: %+v, %v", text, b, err)
		}
	}
	for _, text := range []string{
		"", "hash", "hash:", "ip", "hash:ip:a", "hash:header", "hash:header:",
		"hash:header:a b", "hash:cookie:a=b", "header:X-User", "hash:hash:ip", "Least",
	} {
		var b node.Balance
		if err := b.UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), "write least") {
			t.Errorf("%q: %+v, %v", text, b, err)
		}
	}
}

func TestTargetLimit(t *testing.T) {
	for text, want := range map[string]node.TargetLimit{"0": 0, "100": 100, "auto": node.LimitAuto} {
		var l node.TargetLimit
		if err := l.UnmarshalText([]byte(text)); err != nil || l != want || l.String() != text {
			t.Errorf("%s: %d, %v", text, l, err)
		}
	}
	for _, text := range []string{"", "-1", "1.5", "many", "99999999999", "0x10", " 1"} {
		var l node.TargetLimit
		if err := l.UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), "or auto") {
			t.Errorf("%q: %d, %v", text, l, err)
		}
	}
}

// Accepted texts are written so that they are parsed as the same values.
func FuzzUpstreamTexts(f *testing.F) {
	for _, s := range []string{
		"least", "hash:ip", "hash:header:X-A", "hash:cookie:a:b", "auto", "007", "SPDY/3.1",
		"http://a:1/", "https://[::1]",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var b, b2 node.Balance
		if b.UnmarshalText([]byte(text)) == nil && (b2.UnmarshalText([]byte(b.String())) != nil || b2 != b) {
			t.Errorf("%q is %+v, then %+v", text, b, b2)
		}
		var l, l2 node.TargetLimit
		if l.UnmarshalText([]byte(text)) == nil && (l2.UnmarshalText([]byte(l.String())) != nil || l2 != l) {
			t.Errorf("%q is %d, then %d", text, l, l2)
		}
		var p, p2 node.Protocol
		if p.UnmarshalText([]byte(text)) == nil && (p2.UnmarshalText([]byte(p)) != nil || p2 != p) {
			t.Errorf("%q is %q, then %q", text, p, p2)
		}
		var u, u2 node.BaseURL
		if u.UnmarshalText([]byte(text)) == nil && (u2.UnmarshalText([]byte(u)) != nil || u2 != u) {
			t.Errorf("%q is %q, then %q", text, u, u2)
		}
	})
}
