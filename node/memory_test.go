package node_test

import (
	"strings"
	"testing"

	"millrace/node"
)

// Default sizes fit the memory of the process even if every limit is reached. Configured ones aren't changed.
func TestFitReducesOnlyDefaults(t *testing.T) {
	for _, c := range []struct {
		memory      node.Size
		cache       node.Size
		connections int
	}{
		{0, 256 * node.MiB, 10_000},
		{24 * node.GiB, 256 * node.MiB, 10_000},
		{2 * node.GiB, 256 * node.MiB, 10_000},
		{node.GiB, 256 * node.MiB, 10_000},
		{400 * node.MiB, 100 * node.MiB, 3_064},
		{256 * node.MiB, 64 * node.MiB, 1_408},
		{32 * node.MiB, 8 * node.MiB, 64},
	} {
		cfg := node.Default().Fit(c.memory)
		if cfg.Cache.Memory != c.cache || cfg.Edge.MaxConnections != c.connections {
			t.Errorf("%s: cache %s and %d connections, want %s and %d", c.memory, cfg.Cache.Memory,
				cfg.Edge.MaxConnections, c.cache, c.connections)
		}
		if problems := cfg.Validate(); problems != nil {
			t.Errorf("%s: %v", c.memory, problems)
		}
		cfg.Routes = []node.Route{{Cache: &node.Cache{On: true}, Limit: []node.Limit{{}}}}
		need := cfg.MemoryNeed(cfg.LimitKeys(c.memory))
		if c.memory >= 256*node.MiB && need.Total() > c.memory {
			t.Errorf("%s: the defaults may need %s", c.memory, need)
		}
	}
	cfg := node.Default()
	cfg.Cache.Memory, cfg.Edge.MaxBuffered, cfg.Edge.MaxConnections = node.GiB, 100*node.MiB, 20_000
	if got := cfg.Fit(400 * node.MiB); got.Cache.Memory != node.GiB || got.Edge.MaxBuffered != 100*node.MiB ||
		got.Edge.MaxConnections != 20_000 {
		t.Errorf("what is named became %s, %s and %d", got.Cache.Memory, got.Edge.MaxBuffered, got.Edge.MaxConnections)
	}
}

// The need counts what is used, and bodies as often as they are copied.
func TestMemoryNeed(t *testing.T) {
	cfg := node.Default()
	none := cfg.MemoryNeed(1_000_000)
	if none.Cache != 0 || none.Limits != 0 || none.Bodies != 5*64*node.MiB || none.Connections == 0 {
		t.Errorf("without routes: %s", none)
	}
	cfg.Routes = []node.Route{{Cache: &node.Cache{On: false}}}
	if cfg.MemoryNeed(1).Cache != 0 {
		t.Error("a route that doesn't cache needs a cache")
	}
	cfg.Routes = []node.Route{{Cache: &node.Cache{On: true}, Limit: []node.Limit{{}}}}
	cfg.Cache.Memory = node.GiB
	need := cfg.MemoryNeed(1_000_000)
	if need.Cache < node.GiB || need.Limits != 90_000_000 ||
		need.Total() != need.Base+need.Cache+need.Bodies+need.Connections+need.Limits {
		t.Errorf("%s", need)
	}
	if text := need.String(); !strings.Contains(text, "1152 MiB for cache.memory") || !strings.Contains(text,
		"320 MiB for 5 times edge.max_buffered") {
		t.Errorf("it says %q", text)
	}
}
