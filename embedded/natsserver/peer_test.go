package natsserver

import "testing"

func TestPeer(t *testing.T) {
	for text, want := range map[string]string{
		`127.0.0.1:4711 - cid:8 - "v1:go:x" - Publish Violation - Subject "a"`: "127.0.0.1",
		`[::1]:4711 - wid:8 - slow`:         "::1",
		`host/10.0.0.1:6222 - rid:3 - x`:    "host/10.0.0.1",
		`pipe - cid:1 - Slow Consumer`:      "pipe",
		`JetStream cluster no metadata - x`: "",
		``:                                  "",
	} {
		if got := peer(text); got != want {
			t.Errorf("%s: peer %q, want %q", text, got, want)
		}
	}
}

// peer accepts any message, and returns a part of it.
func FuzzPeer(f *testing.F) {
	f.Add(`127.0.0.1:4711 - cid:8 - x`)
	f.Add(` - cid:`)
	f.Fuzz(func(t *testing.T, text string) {
		if got := peer(text); len(got) > len(text) {
			t.Errorf("%q is the peer of %q", got, text)
		}
	})
}
