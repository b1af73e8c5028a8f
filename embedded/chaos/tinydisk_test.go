//go:build system

package chaos_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// tinyDisk runs a node on disks that are too small for the default sizes of cache and limits. It must still serve,
// count and purge, and report what is missing.
func tinyDisk(t *testing.T, _ bool) string {
	t.Helper()
	var seen []string
	for _, mib := range []int{64, 300, 1000} {
		disk := smallDisk(t, mib)
		p := start(t, t.TempDir(), diskYAML(t, disk+"/data"))
		took := within(t, wait, fmt.Sprintf("the node on %d MiB is ready", mib), func() bool {
			ok, _ := p.readyz()
			return ok
		})
		if !p.limitedServes() {
			t.Errorf("on %d MiB the limited route doesn't serve", mib)
		}
		if code, body := p.purge(t); code != http.StatusOK {
			t.Errorf("on %d MiB a purge answers %d %s", mib, code, body)
		}
		st := p.status(t)
		if text := strings.Join(st.Degraded, "\n"); !strings.Contains(text, "too small") {
			t.Errorf("on %d MiB the node says %q", mib, text)
		}
		seen = append(seen, fmt.Sprintf("%d MiB: ready in %.1f s, cache gets %d MiB", mib, took.Seconds(),
			st.Cache.BucketMax>>20))
		p.kill()
	}
	return strings.Join(seen, "; ")
}
