package node_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"millrace/node"
	"millrace/node/nodetest"
)

func TestParsePattern(t *testing.T) {
	for _, tc := range []struct{ pattern, err string }{
		{"/", ""},
		{"/*", ""},
		{"/a", ""},
		{"/a/", ""},
		{"/a//b", ""},
		{"/a/*", ""},
		{"/users/{id}", ""},
		{"/users/{id}/{_x9}/*", ""},
		{"/a-b_c.d~e!$&'()+,;=:@", ""},
		{"", "doesn't begin with /"},
		{"a", "doesn't begin with /"},
		{"*", "doesn't begin with /"},
		{"/a*", "* may only be the whole last segment"},
		{"/*/a", "* may only be the whole last segment"},
		{"/{}", "{} is not a parameter"},
		{"/{a-b}", "{a-b} is not a parameter"},
		{"/{a", "a parameter must be a whole segment"},
		{"/a}", "a parameter must be a whole segment"},
		{"/x{a}", "a parameter must be a whole segment"},
		{"/{a}/{a}", "names {a} twice"},
		{"/.", "never matches"},
		{"/a/../b", "never matches"},
		{"/a b", ""},
		{"/é/ü/日本", ""},
		{"/a[1]|^<>`\"", ""},
		{"/50%25/%2F/%3B%2A", ""},
		{"/a?b", "a path ends before the ?"},
		{"/a#b", "a # begins a fragment"},
		{"/50%", "write %25 for the character itself"},
		{"/a%2", "write %25 for the character itself"},
		{"/a\x00", "can't be in a path"},
		{"/a\\b", "can't be in a path"},
		{"/a%5Cb", "never matches"},
		{"/a%00", "never matches"},
		{"/%ff", "never matches"},
		{"/\xff", "isn't UTF-8 text"},
		{"/%2e%2E", "never matches"},
		{"/..;a", "never matches"},
		{"/a%2F..%2Fb", "never matches"},
	} {
		p, err := node.ParsePattern(tc.pattern)
		nodetest.WantError(t, tc.pattern, err, tc.err)
		if text, marshalErr := p.MarshalText(); err == nil && (string(text) != tc.pattern || marshalErr != nil) {
			t.Errorf("%q is written as %q, %v", tc.pattern, text, marshalErr)
		}
	}
}

func TestPatternParams(t *testing.T) {
	if got := pattern(t, "/a/{x}/b/{y}/*").Params(); !slices.Equal(got, []string{"x", "y"}) {
		t.Errorf("got %q", got)
	}
	if got := pattern(t, "/a/*").Params(); got != nil {
		t.Errorf("got %q", got)
	}
}

func TestPatternCompare(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want node.Relation
	}{
		{"/", "/", node.Equal},
		{"/a/{x}", "/a/{y}", node.Equal},
		{"/a/*", "/a/*", node.Equal},
		{"/", "/*", node.Narrower},
		{"/a", "/a/*", node.Narrower},
		{"/a/", "/a/*", node.Narrower},
		{"/a/b", "/a/{x}", node.Narrower},
		{"/a/{x}", "/{y}/{z}", node.Narrower},
		{"/a/b/*", "/a/*", node.Narrower},
		{"/{x}/*", "/*", node.Narrower},
		{"/{x}", "/a/*", node.Overlap},
		{"/a/{x}", "/{y}/b", node.Overlap},
		{"/a/*", "/{x}/b", node.Overlap},
		{"/a", "/b", node.Disjoint},
		{"/a", "/a/", node.Disjoint},
		{"/", "/{x}", node.Disjoint},
		{"/a/{x}", "/a", node.Disjoint},
		{"/a/*", "/b/*", node.Disjoint},
	} {
		a, b := pattern(t, tc.a), pattern(t, tc.b)
		if got := a.Compare(b); got != tc.want {
			t.Errorf("%s to %s is %d, want %d", tc.a, tc.b, got, tc.want)
		}
		if got := b.Compare(a); got != mirrored(tc.want) {
			t.Errorf("%s to %s is %d, want %d", tc.b, tc.a, got, mirrored(tc.want))
		}
	}
}

// TestPatternCompareRandom checks Compare against matching every path of up to four short segments.
func TestPatternCompareRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	paths := allPaths(4)
	for range 4000 {
		a, b := randomPattern(r, 3), randomPattern(r, 3)
		both, onlyA, onlyB := false, false, false
		for _, path := range paths {
			inA, inB := matches(a, path), matches(b, path)
			both, onlyA, onlyB = both || (inA && inB), onlyA || (inA && !inB), onlyB || (inB && !inA)
		}
		if got, want := pattern(t, a).Compare(pattern(t, b)), relation(both, onlyA, onlyB); got != want {
			t.Fatalf("%s to %s is %d, want %d", a, b, got, want)
		}
	}
}

func pattern(t *testing.T, s string) node.Pattern {
	t.Helper()
	p, err := node.ParsePattern(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mirrored(r node.Relation) node.Relation {
	if other, ok := map[node.Relation]node.Relation{node.Narrower: node.Wider, node.Wider: node.Narrower}[r]; ok {
		return other
	}
	return r
}

// relation returns the relation of two sets.
func relation(both, onlyA, onlyB bool) node.Relation {
	switch {
	case !both:
		return node.Disjoint
	case onlyA && onlyB:
		return node.Overlap
	case onlyA:
		return node.Wider
	case onlyB:
		return node.Narrower
	default:
		return node.Equal
	}
}

// matches defines the meaning of a pattern, as simply as possible.
func matches(pattern, path string) bool {
	want, have := strings.Split(pattern[1:], "/"), strings.Split(path[1:], "/")
	for i, w := range want {
		switch {
		case w == "*":
			return true
		case i >= len(have):
			return false
		case w == have[i], strings.HasPrefix(w, "{") && have[i] != "":
		default:
			return false
		}
		if i+2 == len(want) && i+1 == len(have) && want[i+1] == "*" {
			return true // the bare prefix
		}
	}
	return len(want) == len(have)
}

// allPaths returns all paths of 1 to n segments, each empty, in a pattern, or in none.
func allPaths(n int) []string {
	paths, last := []string{}, []string{""}
	for range n {
		var next []string
		for _, p := range last {
			for _, segment := range []string{"", "a", "b", "z"} {
				next = append(next, p+"/"+segment)
			}
		}
		paths, last = append(paths, next...), next
	}
	return paths
}

func randomPattern(r *rand.Rand, n int) string {
	var b strings.Builder
	for i := range 1 + r.IntN(n) {
		b.WriteString("/" + []string{"a", "b", "", "{" + string(rune('p'+i)) + "}"}[r.IntN(4)])
	}
	switch r.IntN(6) {
	case 0:
		return "/*"
	case 1, 2:
		return b.String() + "/*"
	default:
		return b.String()
	}
}
