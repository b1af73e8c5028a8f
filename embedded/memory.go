package embedded

import (
	"context"
	"fmt"
	"os"

	"millrace/embedded/machine"
	"millrace/node"
)

// measureMemory finds out what the process may have, which sizes that the file doesn't name depend on, and says when it
// may not suffice.
func (n *Node) measureMemory(ctx context.Context) error {
	n.memory = machine.Memory{Bytes: n.opts.Memory, From: "program"}
	if n.opts.Memory <= 0 {
		n.memory = machine.ProcessMemory(os.DirFS("/"))
	}
	if text := n.compareMemory(&n.opts.Config); text != "" {
		n.log.WarnContext(ctx, "the configuration may need more memory than the process may have", "warning", text)
	}
	return nil
}

// fit gives the configuration with the sizes that it leaves to the node.
func (n *Node) fit(cfg *node.Config) node.Config { return cfg.Fit(node.Size(n.memory.Bytes)) }

// compareMemory reports whether all that is bounded may come to more than the process may have; empty if not, or if
// that isn't known. It is told in degraded from then on.
func (n *Node) compareMemory(cfg *node.Config) (text string) {
	text = scarcity(cfg, n.memory)
	n.scarce.Store(&text)
	return text
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
