package main

import (
	"context"
	"fmt"
	"strings"

	"millrace/edge/admin"
)

type reloadCmd struct{ adminFlags }

// Run makes the node read its file again. A file with mistakes changes nothing; the mistakes are printed with their
// lines.
func (c *reloadCmd) Run(ctx context.Context, out console) error {
	var done admin.Reloaded
	if _, err := c.get(ctx, out, "POST", "/v1/reload", &done); err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	_, err := fmt.Fprintf(out.stdout, "reloaded: revision %d\n", done.Revision)
	if len(done.NeedsRestart) > 0 && err == nil {
		_, err = fmt.Fprintf(out.stdout, "changed too, but only a restart applies it: %s\n",
			strings.Join(done.NeedsRestart, ", "))
	}
	for _, w := range done.Warnings {
		if err == nil {
			_, err = fmt.Fprintf(out.stdout, "warning: %s\n", admin.ShowLines(w, "  "))
		}
	}
	return err
}
