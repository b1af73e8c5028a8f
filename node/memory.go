package node

import "fmt"

// The memory that a node needs at most, for one of each.
const (
	memoryBase    = 96 * MiB // the process with NATS and SQLite, and what streams need beyond their connections
	perConnection = 16 * KiB // of one client
	bodyCopies    = 5        // copies of a body that may exist at once: edge/DESIGN.md
	perLimitKey   = 90       // bytes per key of a limit
)

// The default sizes.
const (
	standardMemory      = 256 * MiB
	standardBuffered    = 64 * MiB
	standardConnections = 10_000
	standardLimitKeys   = 4_000_000
)

// Fit returns the configuration for a process with that much memory; 0 means unknown. It reduces default sizes that
// don't fit. Other sizes aren't changed.
func (c Config) Fit(memory Size) Config {
	if memory <= 0 {
		return c
	}
	if c.Cache.Memory == standardMemory {
		c.Cache.Memory = min(standardMemory, max(memory/4, 4*MiB))
	}
	if c.Sites.Memory == standardSiteMemory {
		c.Sites.Memory = min(standardSiteMemory, max(memory/16, MiB))
	}
	shareable := c.shareable(memory)
	if c.Edge.MaxBuffered == standardBuffered {
		c.Edge.MaxBuffered = min(standardBuffered, max(shareable/2/bodyCopies, 2*MiB))
	}
	if c.Edge.MaxConnections == standardConnections {
		c.Edge.MaxConnections = min(standardConnections, max(int(shareable/4/perConnection), 64))
	}
	return c
}

// shareable returns how much memory bodies, connections and limits may use.
func (c *Config) shareable(memory Size) Size {
	return max(memory-memoryBase-cacheNeed(c.Cache.Memory)-c.sitesNeed(), memory/8)
}

// sitesNeed returns what the files of sites need in memory if a route serves a site: more than the limit, as with
// cacheNeed.
func (c *Config) sitesNeed() Size {
	if !c.UsesSites() {
		return 0
	}
	return cacheNeed(c.Sites.Memory)
}

// cacheNeed returns what a full cache needs: more than its entries, since evicted ones are held until they are sent.
func cacheNeed(memory Size) Size { return memory + memory/8 }

// LimitKeys returns how many keys of limits a process with that much memory may remember. Call it on the result of Fit.
func (c *Config) LimitKeys(memory Size) int {
	if memory <= 0 {
		return standardLimitKeys
	}
	return min(standardLimitKeys, max(int(c.shareable(memory)/5/perLimitKey), 10_000))
}

// MemoryNeed is the memory that a node may need at most, by purpose.
type MemoryNeed struct {
	Base, Cache, Sites, Bodies, Connections, Limits Size
}

// MemoryNeed returns what the configuration may need, with limitKeys keys of limits in memory. Several copies of a body
// may exist at once, so the memory for bodies counts as often.
func (c *Config) MemoryNeed(limitKeys int) MemoryNeed {
	n := MemoryNeed{
		Base: memoryBase, Bodies: bodyCopies * c.Edge.MaxBuffered,
		Connections: Size(c.Edge.MaxConnections) * perConnection, Sites: c.sitesNeed(),
	}
	caches, limits := c.Uses()
	if caches {
		n.Cache = cacheNeed(c.Cache.Memory)
	}
	if limits {
		n.Limits = Size(limitKeys) * perLimitKey
	}
	return n
}

// Uses reports whether any route or call caches, and whether any has limits. Named limits count too, since members may
// use them.
func (c *Config) Uses() (caches, limits bool) {
	limits = len(c.Limits) > 0
	for i := range c.Routes {
		r := &c.Routes[i]
		caches = caches || (r.Cache != nil && r.Cache.On)
		limits = limits || len(r.Limit) > 0
		if r.Gather == nil {
			continue
		}
		for _, call := range r.Gather.Calls {
			caches = caches || (call.Cache != nil && call.Cache.On)
		}
	}
	return caches, limits
}

// Total returns the sum.
func (n MemoryNeed) Total() Size {
	return n.Base + n.Cache + n.Sites + n.Bodies + n.Connections + n.Limits
}

// String returns the sum and its parts, in MiB.
func (n MemoryNeed) String() string {
	return fmt.Sprintf("%s (%s for cache.memory, %s for sites.memory, %s for %d times edge.max_buffered, %s for "+
		"connections, %s for limits, %s besides)", n.Total().round(), n.Cache.round(), n.Sites.round(),
		n.Bodies.round(), bodyCopies, n.Connections.round(), n.Limits.round(), n.Base.round())
}

// round formats the size in whole MiB.
func (s Size) round() string { return fmt.Sprintf("%d MiB", (s+MiB/2)/MiB) }
