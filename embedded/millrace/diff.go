package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"millrace/embedded/publish"
)

type diffCmd struct {
	siteFlags
	folderFlags
	Args []string `arg:"" name:"dir|site id id" help:"A folder, to compare with what is live on --site; or a site and two of its deploys."`
	Site string   `placeholder:"NAME" help:"The site to compare the folder with."`
	JSON bool     `help:"Print the difference as JSON."`
}

// Run prints what publishing the folder would change, or in what two deploys differ.
func (c *diffCmd) Run(ctx context.Context, out console) (err error) {
	compare := func(client *publish.Client) (publish.Diff, error) {
		return client.DiffDeploys(ctx, c.Args[0], c.Args[1], c.Args[2])
	}
	switch {
	case len(c.Args) == 1 && c.Site != "":
		folder, err := c.scan(ctx, out, c.Args[0])
		if err != nil {
			return fmt.Errorf("compare: %w", err)
		}
		defer func() { err = errors.Join(err, folder.Close()) }()
		compare = func(client *publish.Client) (publish.Diff, error) { return client.DiffFolder(ctx, folder, c.Site) }
	case len(c.Args) != 3 || c.Site != "":
		return usageError("write millrace diff DIR --site NAME, or millrace diff NAME ID ID")
	}
	return c.use(out, func(client *publish.Client) error {
		d, err := compare(client)
		if err != nil {
			return fmt.Errorf("compare: %w", err)
		}
		if c.JSON {
			return printJSON(out.stdout, d)
		}
		return printDiff(out.stdout, &d)
	})
}

// printDiff prints a line for each file and rule.
func printDiff(to io.Writer, d *publish.Diff) error {
	if d.Empty() {
		_, err := fmt.Fprintln(to, "no difference")
		return err
	}
	w := bufio.NewWriter(to)
	for _, part := range []struct {
		before string
		lines  []string
	}{
		{"+ ", d.Added},
		{"~ ", d.Changed},
		{"- ", d.Gone},
		{"+ _headers: ", d.HeadersAdded},
		{"- _headers: ", d.HeadersGone},
		{"+ _redirects: ", d.RedirectsAdded},
		{"- _redirects: ", d.RedirectsGone},
	} {
		for _, line := range part.lines {
			fmt.Fprintf(w, "%s%s\n", part.before, line)
		}
	}
	if d.HeadersMoved {
		fmt.Fprintln(w, "~ _headers: another order")
	}
	if d.RedirectsMoved {
		fmt.Fprintln(w, "~ _redirects: another order")
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print the difference: %w", err)
	}
	return nil
}
