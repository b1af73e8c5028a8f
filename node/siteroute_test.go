package node_test

import (
	"slices"
	"strings"
	"testing"

	"millrace/node"
)

func targets(t *testing.T, texts ...string) (out []node.Target) {
	t.Helper()
	for _, text := range texts {
		var to node.Target
		if err := to.UnmarshalText([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if to.String() != text {
			t.Errorf("%s is written %s", text, to)
		}
		out = append(out, to)
	}
	return out
}

func TestRouteToSites(t *testing.T) {
	for _, tc := range []struct {
		to, try  []string
		origin   string
		sites    []string
		describe string
		buffers  bool
	}{
		{to: []string{"site:www"}, sites: []string{"www"}, describe: "site:www"},
		{to: []string{"upstream:app"}, origin: "upstream:app", describe: "upstream:app"},
		{
			try: []string{"site:a", "site:b", "upstream:app"}, origin: "upstream:app", sites: []string{"a", "b"},
			describe: "try site:a, site:b, upstream:app",
		},
		{try: []string{"site:a", "site:b"}, sites: []string{"a", "b"}, describe: "try site:a, site:b"},
		{
			try: []string{"site:a", "nats:x.y"}, origin: "nats:x.y", sites: []string{"a"},
			describe: "try site:a, nats:x.y", buffers: true,
		},
	} {
		r := node.Route{Try: targets(t, tc.try...)}
		want := r.Try
		if len(tc.to) > 0 {
			want = targets(t, tc.to...)
			r.To = want[0]
		}
		if got := r.Targets(); len(got) != len(want) || got[0].String() != want[0].String() {
			t.Errorf("%s has the targets %v", r.Describe(), got)
		}
		if r.Origin().String() != tc.origin || !slices.Equal(r.Sites(), tc.sites) {
			t.Errorf("%s has origin %s and sites %q", r.Describe(), r.Origin(), r.Sites())
		}
		if r.Describe() != tc.describe || r.BuffersBody() != tc.buffers {
			t.Errorf("%s, and BuffersBody is %t", r.Describe(), r.BuffersBody())
		}
		if c := (&node.Config{Routes: []node.Route{{}, r}}); c.UsesSites() != (len(tc.sites) > 0) {
			t.Errorf("%s uses sites: %t", r.Describe(), c.UsesSites())
		}
	}
}

// The hot path asks for the origin of each request that no site answers.
func TestOriginDoesNotAllocate(t *testing.T) {
	r := node.Route{Try: targets(t, "site:a", "upstream:app")}
	if n := testing.AllocsPerRun(100, func() { _ = r.Origin() }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestMemoryOfSites(t *testing.T) {
	c := node.Default()
	if need := c.MemoryNeed(0); need.Sites != 0 {
		t.Errorf("without a site, %s", need)
	}
	c.Routes = []node.Route{{Try: targets(t, "site:a", "upstream:app")}}
	need := c.MemoryNeed(0)
	if need.Sites != 72*node.MiB || !strings.Contains(need.String(), "72 MiB for sites.memory") {
		t.Errorf("with a site, %s", need)
	}
	without := node.Default()
	if grown := need.Total() - without.MemoryNeed(0).Total(); grown != need.Sites {
		t.Errorf("the total grows by %s", grown)
	}
	if small := c.Fit(256 * node.MiB); small.Sites.Memory != 16*node.MiB {
		t.Errorf("of 256 MiB, sites have %s", small.Sites.Memory)
	}
	c.Sites.Memory = 65 * node.MiB
	if own := c.Fit(256 * node.MiB); own.Sites.Memory != 65*node.MiB {
		t.Errorf("the configured size became %s", own.Sites.Memory)
	}
}
