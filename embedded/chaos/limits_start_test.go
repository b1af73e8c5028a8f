//go:build system

package chaos_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"
)

// limitColdStart kills all three nodes at once, like a loss of power, and starts them again. It measures how long it
// takes until each serves a limited route, and until none reports a degraded condition.
func limitColdStart(t *testing.T, long bool) (seen string) {
	t.Helper()
	rounds := 2
	if long {
		rounds = 10
	}
	c := startThree(t, `
		routes:
		  - path: /cold
		    to: upstream:app
		    limit:
		      max: 30
		      window: 10s
		      key: header:X-Key
		`)
	var served, well []time.Duration
	for range rounds {
		for _, n := range c.nodes {
			n.kill()
		}
		var starting sync.WaitGroup
		begun := time.Now()
		for i := range c.nodes {
			starting.Go(func() { c.start(t, i) })
		}
		starting.Wait()
		var last, calm time.Duration
		for i, n := range c.nodes {
			within(t, wait, fmt.Sprintf("n%d serves a limited route", i+1), func() bool {
				status, _ := get(n.edge + "/cold")
				return status == http.StatusOK
			})
			last = max(last, time.Since(begun))
		}
		c.whole(t)
		calm = time.Since(begun)
		t.Logf("all serve after %s, and say that nothing is wrong after %s", last, calm)
		served, well = append(served, last), append(well, calm)
	}
	return fmt.Sprintf("limited routes on all nodes after p50 %s, max %s; all is well after p50 %s, max %s",
		percentile(served, 50).Round(time.Millisecond),
		percentile(served, 100).Round(time.Millisecond), percentile(well, 50).Round(time.Millisecond),
		percentile(well, 100).Round(time.Millisecond))
}
