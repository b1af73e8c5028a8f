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

// memory knows how much memory the process may use. Sizes that the configuration leaves open depend on it.
type memory struct {
	opts    *Options
	log     *slog.Logger
	bounds  machine.Memory         // set by open
	warning atomic.Pointer[string] // the condition to report; empty if there is none
}

// open measures, and warns if the configuration may need more.
func (m *memory) open(ctx context.Context) error {
	m.bounds = machine.Memory{Bytes: m.opts.Memory, From: "program"}
	if m.opts.Memory <= 0 {
		m.bounds = machine.ProcessMemory(os.DirFS("/"))
	}
	if text := m.check(&m.opts.Config); text != "" {
		m.log.WarnContext(ctx, "the configuration may need more memory than the process may have", "warning", text)
	}
	return nil
}

// fit returns the configuration with the sizes filled in that it leaves open.
func (m *memory) fit(cfg *node.Config) node.Config { return cfg.Fit(node.Size(m.bounds.Bytes)) }

// check returns a warning if everything bounded by the configuration may together need more than the process may use;
// "" if not, or if that isn't known. The conditions report the same from then on.
func (m *memory) check(cfg *node.Config) (text string) {
	text = memoryWarning(cfg, m.bounds)
	m.warning.Store(&text)
	return text
}

func (m *memory) change(_ context.Context, cfg *node.Config, _ []node.Route) (warnings []string) {
	if text := m.check(cfg); text != "" {
		return []string{text}
	}
	return nil
}

func (m *memory) conditions(f *conditionList) {
	if text := m.warning.Load(); text != nil {
		f.add(*text, false)
	}
}

func memoryWarning(cfg *node.Config, memory machine.Memory) string {
	have := node.Size(memory.Bytes)
	fitted := cfg.Fit(have)
	need := fitted.MemoryNeed(fitted.LimitKeys(have))
	if have <= 0 || need.Total() <= have {
		return ""
	}
	text := fmt.Sprintf("the node may need %s of memory, and its %s leaves it %d MiB: it may be killed; ", need,
		memory.From, have/node.MiB)
	if fits := (have - (need.Total() - need.Cache)) / 9 * 8 / node.MiB; need.Cache > 0 && fits >= 4 {
		return text + fmt.Sprintf(
			"set cache.memory to %dMiB or less, lower edge.max_buffered or edge.max_connections, or give it more", fits)
	}
	return text + "lower cache.memory, edge.max_buffered or edge.max_connections, or give it more"
}
