//go:build system

package chaos_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// limitSoak uses limits of all kinds on three healthy nodes, with more keys than they hold permits for, and counts the
// requests that were neither admitted nor refused.
func limitSoak(t *testing.T, long bool) (seen string) {
	t.Helper()
	lasts := 10 * time.Second
	if long {
		lasts = 10 * time.Minute
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
		  - path: /sliding
		    to: upstream:app
		    limit:
		      max: 30
		      window: 10s
		      algorithm: sliding
		      key: header:X-Key
		  - path: /bucket
		    to: upstream:app
		    limit:
		      max: 20
		      window: 1s
		      algorithm: bucket
		      key: header:X-Key
		  - path: /queued
		    to: upstream:app
		    timeout: 10s
		    limit:
		      max: 50
		      window: 1s
		      algorithm: bucket
		      mode: queue
		      max_wait: 2s
		      key: header:X-Key
		  - path: /inflight
		    to: upstream:app
		    limit:
		      max: 50
		      algorithm: concurrent
		      key: header:X-Key
		`)
	keys := map[string]int{"/cold": 5000, "/hot": 10, "/sliding": 100, "/bucket": 20, "/queued": 3, "/inflight": 10}
	l := &load{stop: make(chan struct{})}
	for path, n := range keys {
		l.begin(c.nodes[:], path, n, 20)
	}
	<-time.After(lasts)
	all := l.end()
	var failed []sent
	byPath := map[string]int{}
	for _, s := range all {
		if s.status != http.StatusOK && s.status != http.StatusTooManyRequests {
			failed = append(failed, s)
			byPath[s.path]++
		}
	}
	for _, s := range failed[:min(len(failed), 200)] {
		t.Logf("%s: %d at %s after %s", s.path, s.status, s.begun.Format("15:04:05.000"),
			s.took.Round(time.Millisecond))
	}
	var took []time.Duration
	for _, s := range all {
		took = append(took, s.took)
	}
	if len(failed) > 0 {
		t.Errorf("%d of %d requests failed: %v", len(failed), len(all), byPath)
	}
	return strings.TrimSpace(fmt.Sprintf("%d of %d failed in %s; requests took p50 %s, p99 %s, max %s", len(failed),
		len(took), lasts,
		percentile(took, 50).Round(time.Millisecond), percentile(took, 99).Round(time.Millisecond),
		percentile(took, 100).Round(time.Millisecond)))
}
