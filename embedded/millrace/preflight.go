package main

import (
	"fmt"

	"millrace/embedded"
	"millrace/node"
)

// printPreflight prints how a node with the configuration would run on this machine. It fails if the node would refuse
// to start on its data directory.
func printPreflight(out console, cfg *node.Config) error {
	found, err := embedded.RunPreflight(cfg)
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
