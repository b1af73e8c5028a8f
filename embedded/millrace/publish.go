package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"text/tabwriter"
	"time"

	"millrace/edge/admin"
	"millrace/embedded/publish"
	"millrace/node"
)

// folderFlags say which files of a folder are published.
type folderFlags struct {
	Include      []string `placeholder:"GLOB" help:"Publish names that begin with a dot too, such as .htaccess or .config/*; .well-known always is."`
	AllowSecrets bool     `help:"Publish files that look like secrets, such as server.pem."`
}

// scan reads the folder and tells what is noteworthy of it.
func (f folderFlags) scan(ctx context.Context, out console, dir string) (*publish.Folder, error) {
	folder, err := publish.Scan(ctx, dir, publish.ScanOptions{Include: f.Include, AllowSecrets: f.AllowSecrets})
	if err != nil {
		return nil, err
	}
	var skipped []string
	for _, p := range folder.Problems {
		switch p.Severity {
		case publish.Warning:
			fmt.Fprintf(out.stderr, "warning: %s\n", p)
		case publish.Skipped:
			skipped = append(skipped, p.Name)
		case publish.Bad: // in Err
		}
	}
	const shown = 5
	if n := len(skipped); n > shown {
		skipped = append(skipped[:shown], fmt.Sprintf("and %d more", n-shown))
	}
	if len(skipped) > 0 {
		fmt.Fprintf(out.stderr, "left out: %s (--include publishes those that are no secrets)\n",
			strings.Join(skipped, ", "))
	}
	if err := folder.Err(); err != nil {
		return nil, errors.Join(err, folder.Close())
	}
	return folder, nil
}

type publishCmd struct {
	siteFlags
	folderFlags
	Dir     string        `arg:"" help:"The folder that the build wrote."`
	Site    string        `required:"" placeholder:"NAME" help:"The site, as routes name it."`
	Preview string        `placeholder:"NAME" help:"Publish under a host of its own instead, for those who have the URL."`
	For     node.Duration `placeholder:"TIME" help:"How long the preview stays, such as 24h (default: 168h)."`
	Message string        `short:"m" placeholder:"TEXT" help:"What is new, for the history."`
	IfLive  string        `placeholder:"ID" help:"Publish only if this deploy is live, or none (default: what is live when the command begins)."`
	Wait    string        `enum:",all" default:"" placeholder:"all" help:"all: fail unless every node has it; else those that lag follow."`
	Best    bool          `help:"Compress as much as possible, which takes long."`
	DryRun  bool          `help:"Tell what would change, and change nothing."`
	JSON    bool          `help:"Print the result as JSON."`
}

// Help is the second part of what --help prints.
func (publishCmd) Help() string {
	return "Files that the mesh has aren't sent again, and the site changes as a whole or not at all. Without a " +
		"configuration file, as in CI, set MILLRACE_URL to the address of the admin API and MILLRACE_TOKEN to the " +
		"site's token. Exit codes: 0 live, 1 failed, 3 the folder has mistakes, 4 no node is reachable, 5 another " +
		"deploy is live than was expected."
}

// publishGC is GOGC of a publish: what a CI machine gives it may be little, and most of its heap is tables that stay.
const publishGC = 25

// Run publishes the folder and prints what changed and where it is live.
func (c *publishCmd) Run(ctx context.Context, out console) (err error) {
	begun := time.Now()
	debug.SetGCPercent(publishGC)
	folder, err := c.scan(ctx, out, c.Dir)
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	progress := newProgress(out.stderr)
	defer progress.end()
	return c.use(out, func(client *publish.Client) error {
		req := publish.Request{
			Site: c.Site, Preview: c.Preview, Until: c.For.Std(), Message: c.Message, By: by(), WaitAll: c.Wait != "",
			Best: c.Best, DryRun: c.DryRun, Progress: progress.tell,
		}
		if c.IfLive != "" {
			id, err := resolve(ctx, client, c.Site, c.IfLive)
			if err != nil {
				return fmt.Errorf("publish: --if-live: %w", err)
			}
			req.IfLive = &id
		}
		result, err := client.Publish(ctx, folder, req)
		progress.end()
		if err != nil {
			return fmt.Errorf("publish: %w", err)
		}
		if c.JSON {
			return printJSON(out.stdout, result)
		}
		return c.print(out, result, time.Since(begun))
	})
}

func printJSON(w io.Writer, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err == nil {
		_, err = w.Write(append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("print as JSON: %w", err)
	}
	return nil
}

// print prints the result for people.
func (c *publishCmd) print(out console, r *publish.Result, took time.Duration) error {
	files := fmt.Sprintf("%s, %s", count(r.Files, "file"), publish.ShowBytes(r.Bytes))
	changes := fmt.Sprintf("%d new, %d changed, %d gone", len(r.Diff.Added), len(r.Diff.Changed), len(r.Diff.Gone))
	if rulesChange(&r.Diff) {
		changes += ", rules changed"
	}
	switch {
	case r.DryRun:
		fmt.Fprintf(out.stdout, "would publish %s to %s: %s\n  %s; %s is live\n", shortID(r.ID), c.Site, files, changes,
			shortID(r.Was))
		return nil
	case r.Already:
		fmt.Fprintf(out.stdout, "%s is live on %s already: %s\n", shortID(r.ID), c.Site, files)
		return nil
	case c.Preview != "":
		fmt.Fprintf(out.stdout, "preview %s of %s is %s: %s\n", c.Preview, c.Site, shortID(r.ID), files)
	default:
		fmt.Fprintf(out.stdout, "%s is live on %s: %s; it was %s\n", shortID(r.ID), c.Site, files, shortID(r.Was))
	}
	fmt.Fprintf(out.stdout, "  %s; %s sent, %s\n", changes, publish.ShowBytes(r.Sent), showTime(took))
	if err := printNodes(out.stdout, r.Nodes); err != nil {
		return err
	}
	aboutBehind(out, r.Behind)
	return aboutURL(out, r.URL, c.Site, c.Preview)
}

func rulesChange(d *publish.Diff) bool {
	return len(d.HeadersAdded)+len(d.HeadersGone)+len(d.RedirectsAdded)+len(d.RedirectsGone) > 0 || d.HeadersMoved ||
		d.RedirectsMoved
}

// aboutURL prints where the site is, or why that isn't known.
func aboutURL(out console, url, site, preview string) error {
	switch {
	case url != "":
		fmt.Fprintf(out.stdout, "  %s\n", url)
	case preview != "":
		fmt.Fprintf(out.stdout, "  it has no URL: sites.%s.preview in the configuration names a host, such as "+
			"*.preview.example.com\n", site)
	default:
		fmt.Fprintf(out.stdout, "  it has no URL: no route leads to site:%s\n", site)
	}
	return nil
}

// printNodes prints how far each node is.
func printNodes(to io.Writer, nodes []publish.NodeState) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	for _, n := range nodes {
		why := ""
		if n.Error != "" {
			why = "\t" + admin.Show(n.Error)
		}
		fmt.Fprintf(w, "  %s\t%s\tafter %s%s\n", admin.Show(n.Node), n.State,
			showTime(time.Duration(n.MS*float64(time.Millisecond))), why)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print the nodes: %w", err)
	}
	return nil
}

func showTime(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%.3g ms", float64(d.Microseconds())/1000)
	}
	return fmt.Sprintf("%.3g s", d.Seconds())
}
