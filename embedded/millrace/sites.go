package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"millrace/edge/admin"
	"millrace/embedded/publish"
	"millrace/kvcache/deploy"
	"millrace/node"
)

// sitesCmd holds the flags of its commands, so that they may stand before and after their names.
type sitesCmd struct {
	siteFlags
	JSON   bool           `help:"Print the answer of the admin API as it is."`
	List   sitesListCmd   `cmd:"" default:"1" help:"List the sites (what sites alone does too)."`
	Show   sitesShowCmd   `cmd:"" help:"Tell of one site: what is live, its history, previews and nodes."`
	Delete sitesDeleteCmd `cmd:"" help:"Remove a site with all its deploys and previews."`
}

type sitesListCmd struct{}

// Run prints a line for each site.
func (sitesListCmd) Run(ctx context.Context, out console, sites *sitesCmd) error {
	return sites.use(out, func(client *publish.Client) error {
		list, raw, err := client.Sites(ctx)
		if err != nil {
			return fmt.Errorf("list sites: %w", err)
		}
		if sites.JSON {
			_, err = out.stdout.Write(raw)
			return err
		}
		if len(list) == 0 {
			fmt.Fprintln(out.stdout, "no sites yet: millrace publish DIR --site NAME")
			return nil
		}
		w := tabwriter.NewWriter(out.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "SITE\tLIVE\tSINCE\tBY\tFILES\tSIZE\tDEPLOYS\tPREVIEWS")
		for i := range list {
			s := &list[i]
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%d\t%d\n", s.Site, shortID(s.Live), showSince(s.Since),
				orDash(s.By), s.Files, publish.ShowBytes(s.Bytes), len(s.Deploys), len(s.Previews))
		}
		if err := w.Flush(); err != nil {
			return fmt.Errorf("print sites: %w", err)
		}
		return nil
	})
}

func showSince(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format(time.DateTime)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return admin.Show(s)
}

// siteArg is the argument that names a site.
type siteArg struct {
	Name string `arg:"" help:"The site."`
}

type sitesShowCmd struct{ siteArg }

// Run prints what is known of the site.
func (c *sitesShowCmd) Run(ctx context.Context, out console, sites *sitesCmd) error {
	return sites.use(out, func(client *publish.Client) error {
		s, raw, err := client.SiteRaw(ctx, c.Name)
		if err != nil {
			return fmt.Errorf("show site %s: %w", c.Name, err)
		}
		if sites.JSON {
			_, err = out.stdout.Write(raw)
			return err
		}
		return printSite(out, s)
	})
}

func printSite(out console, s *publish.Shown) error {
	w := tabwriter.NewWriter(out.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "site\t%s\n", s.Site)
	fmt.Fprintf(w, "live\t%s since %s%s%s\n", shortID(s.Live), showSince(s.Since), showAt(s.URL),
		showWhy(s.By, s.Message))
	fmt.Fprintf(w, "files\t%d, %s\n", s.Files, publish.ShowBytes(s.Bytes))
	for _, n := range s.Nodes {
		fmt.Fprintf(w, "node %s\t%s\n", admin.Show(n.Node), showNode(&n))
	}
	kept := map[node.Digest]*deploy.Record{}
	for i := range s.Deploys {
		kept[s.Deploys[i].ID()] = &s.Deploys[i]
	}
	for _, name := range slices.Sorted(maps.Keys(s.Previews)) {
		p := s.Previews[name]
		fmt.Fprintf(w, "preview %s\t%s until %s%s%s\n", name, shortID(p.ID), showSince(p.Until),
			showAt(s.PreviewURLs[name]), showWhy(p.By, ""))
	}
	for i := range s.Changes {
		ch := &s.Changes[i]
		state := ""
		if kept[ch.ID] == nil && ch.ID != (node.Digest{}) {
			state = ", not kept any more"
		}
		fmt.Fprintf(w, "%s\t%s %s%s%s\n", showSince(ch.At), ch.Why, shortID(ch.ID), showWhy(ch.By, ch.Message), state)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print site: %w", err)
	}
	return nil
}

// showNode says how far a node is.
func showNode(a *deploy.Answer) string {
	text := string(a.State)
	if a.State != deploy.NodeReady {
		text += ", serves " + shortID(a.Live)
	}
	if a.Error != "" {
		text += ": " + admin.Show(a.Error)
	}
	return text
}

func showAt(url string) string {
	if url == "" {
		return ""
	}
	return ", at " + admin.Show(url)
}

func showWhy(by, message string) string {
	text := ""
	if by != "" {
		text = ", by " + admin.Show(by)
	}
	if message != "" {
		text += ": " + admin.Show(message)
	}
	return text
}

type sitesDeleteCmd struct {
	siteArg
	Yes bool `help:"Yes, delete it."`
}

// Run removes the site.
func (c *sitesDeleteCmd) Run(ctx context.Context, out console, sites *sitesCmd) error {
	if !c.Yes {
		return usageError(fmt.Sprintf("this removes %s with all its deploys and previews for ever: add --yes", c.Name))
	}
	return sites.use(out, func(client *publish.Client) error {
		done, raw, err := client.Delete(ctx, c.Name)
		if err != nil {
			return fmt.Errorf("delete site %s: %w", c.Name, err)
		}
		if sites.JSON {
			_, err = out.stdout.Write(raw)
			return err
		}
		fmt.Fprintf(out.stdout, "%s is deleted; %s was live\n", c.Name, shortID(done.Was))
		aboutBehind(out, done.Behind)
		return nil
	})
}
