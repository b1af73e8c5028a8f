package main

import (
	"fmt"

	"millrace/embedded"
	"millrace/node"
)

// fits tells what a node with the configuration would meet on this machine: its disk, what it wouldn't get, and whether
// it may start on its data directory.
func fits(out console, cfg *node.Config) error {
	found, err := embedded.Look(cfg)
	if err != nil {
		return fmt.Errorf("a node with this file wouldn't start here: %w", err)
	}
	for _, w := range found.Warnings {
		fmt.Fprintln(out.stderr, "warning:", w)
	}
	if found.Disk != "" {
		fmt.Fprintln(out.stdout, found.Disk)
	}
	return nil
}
