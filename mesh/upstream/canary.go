package upstream

import (
	"strings"
	"sync/atomic"

	"millrace/mesh"
	"millrace/node"
)

// canary decides which requests go to the canary targets. Safe for concurrent use.
type canary struct{ drawn atomic.Uint64 }

// selects reports whether a request goes to the canaries. The configured field of the request decides if it says always
// or never, else the share: exactly the configured number of each hundred requests, evenly spread.
func (c *canary) selects(cfg *node.Canary, req *mesh.Request) bool {
	if cfg == nil {
		return false
	}
	if cfg.Header != "" {
		switch word := strings.TrimSpace(req.Header.Get(cfg.Header)); {
		case strings.EqualFold(word, "always"):
			return true
		case strings.EqualFold(word, "never"):
			return false
		}
	}
	percent := uint64(cfg.Percent) //nolint:gosec // G115: 0 to 100
	return c.drawn.Add(percent)%100 < percent
}
