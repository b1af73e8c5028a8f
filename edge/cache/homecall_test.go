package cache_test

import (
	"net/netip"
	"testing"

	"millrace/edge/cache"
)

// What a node tells a key's home arrives as it was; another version, or what is no such message, is not read, so that
// nodes of two versions fetch for themselves.
func TestHomeCallIsReadOfOneVersion(t *testing.T) {
	call := cache.HomeCall{
		Version: cache.HomeCallVersion, Route: "shop.items", Fingerprint: "0f", Scheme: "https", RequestID: "a b\"c",
		Peer: netip.MustParseAddr("2001:db8::1"), Trusted: true, Newer: 1_700_000_000_123,
	}
	if got, ok := cache.ReadHomeCall(call.String()); !ok || got != call {
		t.Errorf("got %+v, %t, want %+v", got, ok, call)
	}
	next := call
	next.Version++
	for _, text := range []string{
		next.String(), "", "{}", "shop.items 0f https id 192.0.2.1 true 0", "[1]",
		call.String() + "x",
	} {
		if got, ok := cache.ReadHomeCall(text); ok {
			t.Errorf("%q: read as %+v", text, got)
		}
	}
}

// FuzzHomeCall reads what any member of the mesh may send.
func FuzzHomeCall(f *testing.F) {
	f.Add(cache.HomeCall{Version: cache.HomeCallVersion, Peer: netip.MustParseAddr("192.0.2.1")}.String())
	f.Add(`{"v":1,"peer":"x"}`)
	f.Fuzz(func(t *testing.T, text string) {
		call, ok := cache.ReadHomeCall(text)
		if !ok {
			return
		}
		if again, ok := cache.ReadHomeCall(call.String()); !ok || again != call {
			t.Errorf("%q: %+v is read again as %+v, %t", text, call, again, ok)
		}
	})
}
