package kvcache_test

import (
	"fmt"
	"testing"

	"millrace/embedded/natsserver/natsservertest"
	"millrace/kvcache"
)

// A purge of a path reaches it on every host, with exactly its query. A prefix of paths reaches all paths that begin
// with it. Neither reaches a URL with the path in its query.
func TestPathPurgeReachesEveryHost(t *testing.T) {
	c := open(t, natsservertest.Start(t), "n1")
	urls := []string{
		"http://a.example/items/1", "https://b.example:8443/items/1",
		"http://a.example/items/1?x=2", "http://a.example/items/12",
		"http://a.example/go?to=http://b.example/items/1", "http://a.example/x/items/1",
	}
	for _, p := range []struct {
		kvcache.Purge

		gone []int
	}{
		{kvcache.Purge{Reach: kvcache.ReachURL, Text: "/items/1"}, []int{0, 1}},
		{kvcache.Purge{Reach: kvcache.ReachURL, Text: "/items/1?x=2"}, []int{2}},
		{kvcache.Purge{Reach: kvcache.ReachPrefix, Text: "/items/1"}, []int{0, 1, 2, 3}},
		{kvcache.Purge{Reach: kvcache.ReachPrefix, Text: "/"}, []int{0, 1, 2, 3, 4, 5}},
		{kvcache.Purge{Reach: kvcache.ReachURL, Text: "/none"}, nil},
	} {
		for _, url := range urls {
			c.Put(entry(c, url, "a.example", "t", "v"), kvcache.MemoryOnly)
		}
		purge(t, c, true, p.Purge)
		for i, url := range urls {
			want := kvcache.Valid
			for _, gone := range p.gone {
				if gone == i {
					want = kvcache.Invalid
				}
			}
			if got := validity(c, url); got != want {
				t.Errorf("%s %s: %s is %d, want %d", p.Reach, p.Text, url, got, want)
			}
		}
	}
	if n := c.Stats().Purges; n != 5 {
		t.Errorf("%d purges are remembered, want 5", n)
	}
}

// Prefixes of paths are bounded: one more reaches everything rather than nothing.
func TestPathPurgesAreBounded(t *testing.T) {
	c := open(t, natsservertest.Start(t), "n1")
	var purges []kvcache.Purge
	for i := range 1001 {
		purges = append(purges, kvcache.Purge{Reach: kvcache.ReachPrefix, Text: fmt.Sprintf("/p/%d", i)})
	}
	c.Put(entry(c, "http://a.example/other", "a.example", "t", "v"), kvcache.MemoryOnly)
	purge(t, c, true, purges[:1000]...)
	if got := validity(c, "http://a.example/other"); got != kvcache.Valid {
		t.Errorf("after a thousand prefixes another path is %d", got)
	}
	purge(t, c, true, purges[1000:]...)
	if got := validity(c, "http://a.example/other"); got != kvcache.Invalid {
		t.Errorf("after one too many it is %d", got)
	}
}
