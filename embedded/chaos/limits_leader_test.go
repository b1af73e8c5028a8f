//go:build system

package chaos_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// limitLeaderKilled repeatedly kills the node that leads the limits' stream, while clients with many keys send requests
// to the other two. Each key needs the store for nearly every request.
func limitLeaderKilled(t *testing.T, long bool) (seen string) {
	t.Helper()
	rounds := 2
	if long {
		rounds = 20
	}
	c := startThree(t, `
		routes:
		  - path: /cold
		    to: upstream:app
		    limit:
		      max: 30
		      window: 10s
		      key: header:X-Key
		  - path: /hot
		    to: upstream:app
		    limit:
		      max: 2000
		      window: 10s
		      key: header:X-Key
		`)
	paths := []string{"/cold", "/hot"}
	var gaps, longest [2][]time.Duration
	var requests, failed, lost [2]int
	for range rounds {
		victim := c.leader(t)
		l := &load{stop: make(chan struct{})}
		survivors := slices.Delete(slices.Clone(c.nodes[:]), victim, victim+1)
		l.begin(survivors, "/cold", 5000, 100)
		l.begin(survivors, "/hot", 10, 100)
		<-time.After(2 * time.Second)
		killed := time.Now()
		c.nodes[victim].kill()
		<-time.After(12 * time.Second)
		all := l.end()
		for i, path := range paths {
			g := gapAfter(all, path, killed, 10*time.Second)
			gaps[i], longest[i] = append(gaps[i], g.lasted()), append(longest[i], g.longest)
			requests[i] += g.requests
			failed[i] += g.failed
			lost[i] += g.lost
			t.Logf("n%d %s: %d of %d failed, from %s to %s after the kill; longest %s, %d lost with it", victim+1, path,
				g.failed, g.requests, g.begun, g.ended, g.longest, g.lost)
		}
		c.start(t, victim)
		c.whole(t)
	}
	var out []string
	for i, path := range paths {
		out = append(out, fmt.Sprintf(
			"%s: gap p50 %s, p99 %s, max %s; %d of %d (%.1f %%) failed in the 10 s after the kill; longest wait p50 "+
				"%s, max %s, but for %d that were with the dead node", path,
			percentile(gaps[i], 50).Round(time.Millisecond), percentile(gaps[i], 99).Round(time.Millisecond),
			percentile(gaps[i], 100).Round(time.Millisecond),
			failed[i], requests[i], 100*float64(failed[i])/float64(requests[i]),
			percentile(longest[i], 50).Round(time.Millisecond),
			percentile(longest[i], 100).Round(time.Millisecond), lost[i]))
		if share := float64(failed[i]) / float64(requests[i]); share > 0.01 {
			t.Errorf("%s: %.1f %% of the requests failed", path, 100*share)
		}
	}
	return strings.Join(out, "; ")
}
