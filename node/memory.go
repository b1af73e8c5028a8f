package node

import "fmt"

// What a node may need of memory beyond its cache, at most, for each that there is.
const (
	memoryBase    = 96 * MiB // the process itself, with NATS and SQLite, and what streams hold beyond their connections
	perConnection = 16 * KiB // of a client
	bodyHands     = 5        // that a body passes and may be held by at once: edge/DESIGN.md
	perLimitKey   = 90       // bytes of a key that limits remember
)

// The sizes of a configuration that names none.
const (
	standardMemory      = 256 * MiB
	standardBuffered    = 64 * MiB
	standardConnections = 10_000
	standardLimitKeys   = 4_000_000
)

// Fit gives the configuration for a process that may have so much memory (0 if that isn't known): sizes that are as by
// default become smaller where that much isn't there. What the file names otherwise stays.
func (c Config) Fit(memory Size) Config {
	if memory <= 0 {
		return c
	}
	if c.Cache.Memory == standardMemory {
		c.Cache.Memory = min(standardMemory, max(memory/4, 4*MiB))
	}
	rest := c.rest(memory)
	if c.Edge.MaxBuffered == standardBuffered {
		c.Edge.MaxBuffered = min(standardBuffered, max(rest/2/bodyHands, 2*MiB))
	}
	if c.Edge.MaxConnections == standardConnections {
		c.Edge.MaxConnections = min(standardConnections, max(int(rest/4/perConnection), 64))
	}
	return c
}

// rest is what bodies, connections and limits may share of the memory.
func (c *Config) rest(memory Size) Size {
	return max(memory-memoryBase-cacheNeed(c.Cache.Memory), memory/8)
}

// cacheNeed is what a full cache needs: more than its entries, since what leaves it is held until it was sent.
func cacheNeed(memory Size) Size { return memory + memory/8 }

// LimitKeys is how many keys limits remember at most in a process that may have so much memory. It is asked of what Fit
// gives.
func (c *Config) LimitKeys(memory Size) int {
	if memory <= 0 {
		return standardLimitKeys
	}
	return min(standardLimitKeys, max(int(c.rest(memory)/5/perLimitKey), 10_000))
}

// MemoryNeed is what a node may need at most, by what for.
type MemoryNeed struct {
	Base, Cache, Bodies, Connections, Limits Size
}

// MemoryNeed adds up the bounds of a configuration, with so many keys of limits in memory. A body that passes the node
// is held by several hands at once, so what bodies may have counts as often.
func (c *Config) MemoryNeed(limitKeys int) MemoryNeed {
	n := MemoryNeed{
		Base: memoryBase, Bodies: bodyHands * c.Edge.MaxBuffered,
		Connections: Size(c.Edge.MaxConnections) * perConnection,
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

// Uses reports whether some route caches, and whether some has limits, its calls included. Limits that only members use
// count too.
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

// Total is the sum.
func (n MemoryNeed) Total() Size { return n.Base + n.Cache + n.Bodies + n.Connections + n.Limits }

// String tells the sum and its parts, in MiB.
func (n MemoryNeed) String() string {
	return fmt.Sprintf("%s (%s for cache.memory, %s for %d times edge.max_buffered, %s for connections, %s for "+
		"limits, %s besides)", n.Total().round(), n.Cache.round(), n.Bodies.round(), bodyHands,
		n.Connections.round(), n.Limits.round(), n.Base.round())
}

// round writes the size in whole MiB, for people.
func (s Size) round() string { return fmt.Sprintf("%d MiB", (s+MiB/2)/MiB) }
