package main

import (
	"context"
	"fmt"

	"millrace/embedded/publish"
	"millrace/node"
)

// changeFlags are the flags of commands that make another deploy live.
type changeFlags struct {
	siteFlags
	Message string `short:"m" placeholder:"TEXT" help:"Why, for the history."`
	JSON    bool   `help:"Print the result as JSON."`
}

// print prints what a change did. how follows the name of the site.
func (f changeFlags) print(out console, site, how string, done *publish.Published) error {
	if f.JSON {
		return printJSON(out.stdout, done)
	}
	if done.Live == done.Was {
		fmt.Fprintf(out.stdout, "%s is live on %s already\n", shortID(done.Live), site)
		return nil
	}
	fmt.Fprintf(out.stdout, "%s is live on %s%s, after %.1f ms; it was %s\n", shortID(done.Live), site, how,
		done.TookMS, shortID(done.Was))
	aboutBehind(out, done.Behind)
	return aboutURL(out, done.URL, site, "")
}

type rollbackCmd struct {
	changeFlags
	Name string `arg:"" help:"The site."`
	ID   string `arg:"" optional:"" help:"The deploy, or its first digits (default: the one that was live before)."`
}

// Run makes an earlier deploy live.
func (c *rollbackCmd) Run(ctx context.Context, out console) error {
	return c.use(out, func(client *publish.Client) error {
		var id node.Digest
		var err error
		if c.ID != "" {
			id, err = resolve(ctx, client, c.Name, c.ID)
		}
		var done *publish.Published
		if err == nil {
			done, err = client.Rollback(ctx, c.Name, id, by(), c.Message)
		}
		if err != nil {
			return fmt.Errorf("roll back %s: %w", c.Name, err)
		}
		return c.print(out, c.Name, " again", done)
	})
}
