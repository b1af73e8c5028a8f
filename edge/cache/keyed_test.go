package cache_test

import (
	"strconv"
	"strings"
	"testing"

	"millrace/edge/edgetest"
	"millrace/mesh"
	"millrace/node"
)

// What the origin can see of a keyed cookie or field is what the key holds of it, in whatever way the origin reads what
// comes twice: none of these is answered with what was stored for another, and each with its own.
func TestKeyHoldsAllThatTheOriginSeesOfAPart(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) {
		c.Key = []node.RequestPart{{Cookie: true, Name: "lang"}, {Name: "X-Lang"}}
	}))
	sets := [][]string{
		{},
		{"Cookie", "lang=en"},
		{"Cookie", "lang=de"},
		{"Cookie", "lang=en; lang=de"},
		{"Cookie", "lang=de; lang=en"},
		{"Cookie", "lang=en", "Cookie", "lang=de"},
		{"Cookie", "lang=en; Lang=de"},
		{"Cookie", "lang=en; lang =de"},
		{"Cookie", "lang=en; lang"},
		{"Cookie", "lang"},
		{"Cookie", "LANG=en"},
		{"Cookie", "a=1, lang=en"},
		{"Cookie", `a="1; lang=en; b="`},
		{"Cookie", `lang="en"`},
		{"Cookie", "lang="},
		{"Cookie", "lang=LANG=en"},
		{"X-Lang", "en"},
		{"X-Lang", "en, de"},
		{"X-Lang", "en", "X-Lang", "de"},
		{"X-Lang", ""},
	}
	r.On("/a", func(req *mesh.Request, n int) *mesh.Response {
		var b strings.Builder
		for _, f := range req.Header {
			if f.Name == "Cookie" || f.Name == "X-Lang" {
				b.WriteString(f.Name + ": " + f.Value + "\n")
			}
		}
		return edgetest.Always(200, b.String()+strconv.Itoa(n), "Cache-Control", "max-age=60")(req, n)
	})
	own := map[int]string{}
	for i, header := range sets {
		s := r.Get(t, "/a", header...)
		if s.Hit {
			t.Errorf("%q: %s", header, s)
		}
		own[i] = s.Text
	}
	for i, header := range sets {
		r.Get(t, "/a", header...).WantHit(t, strings.Join(header, " "), own[i])
	}
	// What doesn't matter still doesn't.
	for _, line := range []string{
		"lang=en; other=1", "other=1; lang=en", `lang=en; other="x; y"`, "xlang=de; lang=en",
		"other=lang; lang=en",
	} {
		r.Get(t, "/a", "Cookie", line).WantHit(t, line, own[1])
	}
	r.Get(t, "/a", "Cookie", "other=1").WantHit(t, "another cookie", own[0])
}
