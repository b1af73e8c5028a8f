package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path"
	"slices"
	"strings"
	"sync"

	"millrace/embedded"
	"millrace/embedded/publish"
	"millrace/node"
)

// localSite is the name of the site of nodes that serve a folder of this machine.
const localSite = "site"

// siteOptions say how a folder is served.
type siteOptions struct {
	folderFlags
	SPA   string `name:"spa" placeholder:"FILE" help:"For single-page applications: the page for URLs that match no file, such as /index.html."`
	Slash string `placeholder:"MODE" enum:",auto,always,never,keep" default:"" help:"Slashes at the end of URLs: auto, always, never or keep."`
}

// settings returns the settings of the site.
func (o siteOptions) settings() (s node.Site, err error) {
	s.Defaults()
	if o.Slash != "" {
		s.Slash = node.Slash(o.Slash)
	}
	if o.SPA != "" {
		err = s.SPA.UnmarshalText([]byte("/" + strings.TrimPrefix(o.SPA, "/")))
	}
	if err != nil {
		return s, usageError("--spa: " + err.Error())
	}
	return s, nil
}

type serveCmd struct {
	siteOptions
	Dir    string `arg:"" help:"The folder."`
	Listen string `placeholder:"ADDR" help:"Address for HTTP clients (default: 127.0.0.1:8080, or a free port)."`
	Watch  bool   `help:"Publish the folder again whenever it changes."`
	Print  bool   `help:"Print the configuration file that does the same, and exit."`
}

// Run serves the folder until a signal arrives. Its data directory is temporary.
func (c *serveCmd) Run(ctx context.Context, out console, signals *signals) error {
	cfg := node.Default()
	if err := c.fill(&cfg); err != nil {
		return err
	}
	if c.Print {
		return printConfig(out, cfg)
	}
	local := localFolder{dir: c.Dir, flags: c.folderFlags, page: cfg.Sites.Named[localSite].SPA, watch: c.Watch}
	return local.serve(ctx, out, signals, c.Listen != "", c.fill)
}

// fill adds the site, its route and the flags to the configuration.
func (c *serveCmd) fill(cfg *node.Config) error {
	if c.Listen != "" {
		if err := cfg.Edge.Listen.UnmarshalText([]byte(c.Listen)); err != nil {
			return usageError("--listen: " + err.Error())
		}
	}
	var r node.Route
	r.Defaults()
	r.Path = node.Pattern{Rest: true}
	r.To = node.Target{Kind: node.KindSite, Name: localSite}
	cfg.Routes = []node.Route{r}
	settings, err := c.settings()
	if err != nil {
		return err
	}
	cfg.Sites.Named = map[string]node.Site{localSite: settings}
	if problems := cfg.Validate(); len(problems) > 0 {
		return usageError(problems[0].Message)
	}
	return nil
}

// localFolder is a folder of this machine that a node of its own serves.
type localFolder struct {
	dir   string
	flags folderFlags
	page  node.SPA
	watch bool   // publish it again when it changes
	plain bool   // without compressed forms
	alone bool   // index.html is its only page; set by check
	token string // of the node's admin API

	work sync.WaitGroup // the goroutine that publishes
}

// serve runs a node with a temporary data directory and publishes the folder to it.
func (l *localFolder) serve(
	ctx context.Context, out console, signals *signals, edgeFixed bool, fill func(*node.Config) error,
) (err error) {
	if err := l.check(ctx); err != nil {
		return err
	}
	cfg, remove, err := temporaryConfig()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	if err := fill(&cfg); err != nil {
		return err
	}
	opts := embedded.Options{Config: cfg, Log: logger(out.stderr, false, slog.LevelWarn), Version: version()}
	l.token = cfg.Admin.Token
	publishing, stop := context.WithCancel(ctx)
	defer l.work.Wait()
	defer stop()
	s := serving{open: temporary(opts, edgeFixed), linger: cfg.Edge.Linger.Std(), out: out, signals: signals}
	s.banner = func(n *embedded.Node, ready *readiness) {
		printBanner(out.stdout, n, cfg.Node.Name, l.dir, n.ClientURL(), "/", ready)
		if l.alone && l.page == "" {
			fmt.Fprintln(out.stderr,
				"index.html is the only page: if it makes the others itself, add --spa index.html")
		}
		l.start(publishing, out, n)
	}
	return s.run(ctx)
}

// check fails if something is wrong with the folder. That ends a command at its beginning; later it is only told.
func (l *localFolder) check(ctx context.Context) error {
	folder, err := l.flags.scan(ctx, console{io.Discard, io.Discard}, l.dir)
	if err != nil {
		return fmt.Errorf("serve %s: %w", l.dir, err)
	}
	err = folder.Close()
	l.alone = onlyPage(folder)
	isPage := func(f *publish.File) bool { return f.Path == string(l.page) }
	if l.page != "" && !slices.ContainsFunc(folder.Files, isPage) {
		err = errors.Join(err, usageError(fmt.Sprintf("--spa: %s has no file %s", l.dir, l.page)))
	}
	return err
}

// onlyPage reports whether the folder looks like a single-page application: it has scripts, and no page but
// index.html.
func onlyPage(folder *publish.Folder) bool {
	pages, scripts, first := 0, 0, false
	for _, f := range folder.Files {
		switch path.Ext(f.Path) {
		case ".html":
			pages++
			first = first || f.Path == "/index.html"
		case ".js", ".mjs":
			scripts++
		}
	}
	return first && pages == 1 && scripts > 0
}

// start starts a goroutine that publishes the folder to the node until ctx ends.
func (l *localFolder) start(ctx context.Context, out console, n *embedded.Node) {
	l.work.Go(func() { l.publish(ctx, out, n) })
}

// publish publishes the folder, and again when it changes, until ctx ends.
func (l *localFolder) publish(ctx context.Context, out console, n *embedded.Node) {
	if n.AwaitReady(ctx) != nil {
		return // ctx ended
	}
	client, err := publish.NewClient(publish.Config{URL: n.AdminURL(), Token: l.token})
	if err != nil {
		n.Log().ErrorContext(ctx, "folder isn't published", "cause", err)
		return
	}
	defer client.Close()
	var changes <-chan struct{}
	if l.watch {
		changes = watchFolder(ctx, l.dir, watchEvery)
	}
	for {
		if err := l.publishOnce(ctx, out, client); err != nil && ctx.Err() == nil {
			fmt.Fprintf(out.stderr, "%s isn't published: %v\n", l.dir, err)
		}
		select {
		case <-ctx.Done():
			return
		case <-changes:
		}
	}
}

func (l *localFolder) publishOnce(ctx context.Context, out console, client *publish.Client) (err error) {
	folder, err := l.flags.scan(ctx, out, l.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	result, err := client.Publish(ctx, folder, publish.Request{Site: localSite, Plain: l.plain})
	if err != nil || result.Already {
		return err
	}
	fmt.Fprintf(out.stdout, "published %s: %s, %d new, %d changed, %d gone\n", l.dir, count(result.Files, "file"),
		len(result.Diff.Added), len(result.Diff.Changed), len(result.Diff.Gone))
	return nil
}
