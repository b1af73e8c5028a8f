package cache_test

import (
	"testing"
	"time"

	"millrace/edge/edgetest"
)

// A response that is stale as it comes only because this node's clock is ahead of its Date says so, and so does the
// server: else caching stops and nobody knows why. One that has an Age is old, and nobody's clock is wrong.
func TestResponseThatIsStaleByTheClockAloneSaysSo(t *testing.T) {
	dated := func(ago time.Duration, more ...string) []string {
		return append([]string{"Date", edgetest.HTTPDate(ago)}, more...)
	}
	for name, c := range map[string]struct {
		header []string
		detail string // of the second response
		hit    bool
		ahead  time.Duration // about
	}{
		"in step":            {dated(0), "", true, 0},
		"no Date":            {nil, "", true, 0},
		"ahead":              {dated(time.Hour), "clock-ahead", false, time.Hour},
		"ahead, a validator": {dated(time.Hour, "ETag", `"1"`), "clock-ahead", false, time.Hour},
		"old":                {dated(time.Hour, "Age", "3600"), "no-freshness", false, 0},
		"said to be stale":   {dated(time.Hour, "Cache-Control", "max-age=0"), "no-freshness", false, time.Hour},
		"a little ahead":     {dated(2 * time.Minute), "", true, 2 * time.Minute},
		"seconds ahead":      {dated(10 * time.Second), "", true, 0},
		"seconds that count": {
			dated(10*time.Second, "Cache-Control", "max-age=5"), "clock-ahead", false,
			9 * time.Second,
		},
		"behind": {dated(-time.Hour), "", true, -time.Hour},
	} {
		r := edgetest.Start(t, edgetest.Cached(nil))
		r.On("/a", edgetest.Always(200, "%d", append([]string{"Cache-Control", "max-age=600"}, c.header...)...))
		r.Get(t, "/a")
		if s := r.Get(t, "/a"); s.Hit != c.hit || s.Detail != c.detail {
			t.Errorf("%s: %s", name, s)
		}
		origin, by, ok := r.ClockSkewed()
		if ok != (c.ahead != 0) || (ok && origin != "service:origin") || (by-c.ahead).Abs() > 5*time.Second {
			t.Errorf("%s: %q is told to be off by %s, %t", name, origin, by, ok)
		}
	}
}
