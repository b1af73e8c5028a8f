package main

import (
	"context"
	"fmt"
	"text/tabwriter"

	"millrace/edge/admin"
)

type purgeCmd struct {
	readFlags
	URL    string `arg:"" optional:"" help:"A path with its query, on every host, or a URL: all variants of it."`
	Prefix string `placeholder:"URL" help:"Purge every path, or URL, that begins so: /items/."`
	Host   string `placeholder:"NAME" help:"Purge everything of a host."`
	Tag    string `placeholder:"TAG" help:"Purge what carries a tag (Cache-Tag, Surrogate-Key, xkey; of Cache-Groups: \"ORIGIN GROUP\")."`
	All    bool   `help:"Purge everything."`
	Soft   bool   `help:"What is purged becomes stale instead of gone: it may be served while it is fetched anew, or when the origin is away."`
	NoWait bool   `help:"Don't wait until every node has applied it."`
}

// Run purges and prints which nodes have applied it.
func (c *purgeCmd) Run(ctx context.Context, out console) error {
	if ambiguous(c.URL) {
		return usageError(fmt.Sprintf(
			"%s may be a host or a path: write --host %[1]s for everything of that host, or %[1]s/ for "+
				"its first page, or /%[1]s for a path", admin.Show(c.URL)))
	}
	req := admin.Purge{
		URL: completeTarget(c.URL), Prefix: completeTarget(c.Prefix), Host: c.Host, Tag: c.Tag, All: c.All,
		Soft: c.Soft,
	}
	if !c.NoWait {
		req.Wait = admin.WaitAll
	}
	if !req.Valid() {
		return usageError("name one thing to purge: a path or URL, --prefix, --host, --tag or --all")
	}
	var done admin.Purged
	raw, err := c.post(ctx, out, "/v1/purge", req, &done)
	if err != nil {
		return fmt.Errorf("purge: %w", err)
	}
	if c.JSON {
		_, err = out.stdout.Write(raw)
		return err
	}
	w := tabwriter.NewWriter(out.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "purged: %s, sequence %d, in %.1f ms\n", req, done.Sequence, done.TookMS)
	for _, n := range done.Nodes {
		fmt.Fprintf(w, "  %s\t%s\tafter %.1f ms\n", admin.Show(n.Node), n.State, n.AfterMS)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print what was purged: %w", err)
	}
	return nil
}
