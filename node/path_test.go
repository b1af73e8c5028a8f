package node_test

import (
	"fmt"
	"strings"
	"testing"

	"millrace/node"
	"millrace/node/nodetest"
)

// TestPatternsAsPeopleWriteThem compares patterns with a request's path as a browser sends it.
func TestPatternsAsPeopleWriteThem(t *testing.T) {
	for _, tc := range []struct{ written, canonical, again string }{
		{"/café", "/caf%C3%A9", "/café"},
		{"/caf%c3%a9", "/caf%C3%A9", "/café"},
		{"/a b", "/a%20b", "/a b"},
		{"/a%20b", "/a%20b", "/a b"},
		{"/a[1]", "/a%5B1%5D", "/a[1]"},
		{"/日本/{x}/*", "/%E6%97%A5%E6%9C%AC/{x}/*", "/日本/{x}/*"},
		{"/%61%2D", "/a-", "/a-"},
		{"/a;v=1,2", "/a;v=1,2", "/a;v=1,2"},
		{"/a%3bb", "/a%3Bb", "/a%3Bb"},
		{"/%7bid%7d", "/%7Bid%7D", "/%7Bid%7D"},
		{"/50%25", "/50%25", "/50%25"},
		{"/a%3Fb%23", "/a%3Fb%23", "/a%3Fb%23"},
		{"/a\u202eb", "/a%E2%80%AEb", "/a%E2%80%AEb"}, // reverses the text
		{"/a\ufffdb", "/a%EF%BF%BDb", "/a%EF%BF%BDb"},
	} {
		p := pattern(t, tc.written)
		if got := p.Canonical(); got != tc.canonical || p.String() != tc.again {
			t.Errorf("%s becomes %s and is written as %s, want %s and %s", tc.written, got, p, tc.canonical, tc.again)
		}
	}
}

// FuzzPattern checks that an accepted pattern matches requests, that it is written as it was parsed, and that a
// browser's request for its readable form matches.
func FuzzPattern(f *testing.F) {
	for _, s := range []string{
		"/", "/*", "/café/{id}/*", "/a b", "/a[1]|^", "/%61%7b%2f", "/a%2F..%2Fb", "/..;a", "/a\u202e%E2%80%AE",
		"/%ff", "/50%25", "/a\"<>`",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := node.ParsePattern(text)
		if err != nil {
			return
		}
		for _, s := range p.Segments {
			if s.Param != "" {
				continue
			}
			if got, _, err := node.CanonicalPath("/" + s.Literal); err != nil || got != "/"+s.Literal ||
				strings.Contains(s.Literal, "/") {
				t.Fatalf("%q has the segment %q, as a request %q, %v", text, s.Literal, got, err)
			}
		}
		for _, written := range []string{p.String(), p.Canonical()} {
			if again, err := node.ParsePattern(written); err != nil || again.Compare(p) != node.Equal ||
				again.Canonical() != p.Canonical() {
				t.Fatalf("%q is written as %q, read as %q, %v", text, written, again, err)
			}
		}
		if strings.Contains(text, "%") || len(p.Params()) > 0 || p.Rest {
			return
		}
		asked, _, err := node.CanonicalPath(browserPath(text))
		if err != nil || !p.Matches(asked) {
			t.Fatalf("%q doesn't match the request %q, %v", text, asked, err)
		}
	})
}

// browserPath encodes a path like a browser (https://url.spec.whatwg.org, path percent-encode set).
func browserPath(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte("\"#<>?`{}^", c) >= 0 {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// TestHostsInASCII checks the suggested ASCII form of a host. The forms are those of RFC 3492 §7.1 and of browsers.
func TestHostsInASCII(t *testing.T) {
	for host, want := range map[string]string{
		"café.example": "xn--caf-dma.example", "Bücher.de": "xn--bcher-kva.de", "中国。example": "xn--fiqs8s.example",
		"a.日本語.jp":  "a.xn--wgv71a119e.jp",
		"他们为什么不说中文": "xn--ihqwcrb4cv8a8dqg056pqjye", "3年B組金八先生": "xn--3b-ww4c5e180e575a65lsy2b", "-> $1.00 <-é": "",
		strings.Repeat("é", 64): "", "a b": "",
	} {
		var h node.Host
		err := h.UnmarshalText([]byte(host))
		if err == nil || (want == "") != !strings.Contains(err.Error(), "so write") ||
			!strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %v, want %q", host, err, want)
		}
	}
	var b node.BaseURL
	nodetest.WantError(t, "a target", b.UnmarshalText([]byte("http://café.example:3000")),
		"so write xn--caf-dma.example")
	var l node.Location
	nodetest.WantError(t, "a redirect", l.UnmarshalText([]byte("https://café.example/a")),
		"so write xn--caf-dma.example")
	var a node.Address
	nodetest.WantError(t, "an address", a.UnmarshalText([]byte("café.example:80")), "so write xn--caf-dma.example")
}
