package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"

	"millrace/embedded/machine"
	"millrace/node"
)

// memory is what the process may have, which sizes that the file doesn't name depend on.
type memory struct {
	opts   *Options
	log    *slog.Logger
	bounds machine.Memory         // set by open
	scarce atomic.Pointer[string] // what is to be said of it; empty if nothing is
}

// open measures, and says when it may not suffice.
func (m *memory) open(ctx context.Context) error {
	m.bounds = machine.Memory{Bytes: m.opts.Memory, From: "program"}
	if m.opts.Memory <= 0 {
		m.bounds = machine.ProcessMemory(os.DirFS("/"))
	}
	if text := m.compare(&m.opts.Config); text != "" {
		m.log.WarnContext(ctx, "the configuration may need more memory than the process may have", "warning", text)
	}
	return nil
}

// fit gives the configuration with the sizes that it leaves to the node.
func (m *memory) fit(cfg *node.Config) node.Config { return cfg.Fit(node.Size(m.bounds.Bytes)) }

// compare reports whether all that is bounded may come to more than the process may have; empty if not, or if that
// isn't known. It is told in degraded from then on.
func (m *memory) compare(cfg *node.Config) (text string) {
	text = scarcity(cfg, m.bounds)
	m.scarce.Store(&text)
	return text
}

func (m *memory) change(_ context.Context, cfg *node.Config, _ []node.Route) (warnings []string) {
	if text := m.compare(cfg); text != "" {
		return []string{text}
	}
	return nil
}

func (m *memory) conditions(f *found) {
	if text := m.scarce.Load(); text != nil {
		f.add(*text, false)
	}
}

func scarcity(cfg *node.Config, memory machine.Memory) string {
	have := node.Size(memory.Bytes)
	fitted := cfg.Fit(have)
	need := fitted.MemoryNeed(fitted.LimitKeys(have))
	if have <= 0 || need.Total() <= have {
		return ""
	}
	text := fmt.Sprintf("the node may need %s of memory, and its %s leaves it %d MiB: it may be killed; ", need,
		memory.From, have/node.MiB)
	if room := (have - (need.Total() - need.Cache)) / 9 * 8 / node.MiB; need.Cache > 0 && room >= 4 {
		return text + fmt.Sprintf(
			"set cache.memory to %dMiB or less, lower edge.max_buffered or edge.max_connections, or give it more", room)
	}
	return text + "lower cache.memory, edge.max_buffered or edge.max_connections, or give it more"
}
