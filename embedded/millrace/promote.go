package main

import (
	"context"
	"fmt"

	"millrace/embedded/publish"
)

type promoteCmd struct {
	changeFlags
	Name    string `arg:"" help:"The site."`
	Preview string `arg:"" help:"The preview, as publish --preview named it."`
}

// Run makes the deploy of a preview live, without sending anything.
func (c *promoteCmd) Run(ctx context.Context, out console) error {
	return c.use(out, func(client *publish.Client) error {
		done, err := client.Promote(ctx, c.Name, c.Preview, by(), c.Message)
		if err != nil {
			return fmt.Errorf("promote preview %s of %s: %w", c.Preview, c.Name, err)
		}
		return c.print(out, c.Name, "", done)
	})
}
