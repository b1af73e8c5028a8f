package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"millrace/embedded"
	"millrace/node"
	"millrace/node/config"
)

type configFlag struct {
	Config string `short:"c" placeholder:"FILE" help:"Configuration file (default: millrace.yaml)."`
}

// path is the named file, or millrace.yaml.
func (f configFlag) path() string {
	if f.Config == "" {
		return "millrace.yaml"
	}
	return f.Config
}

type runCmd struct {
	configFlag
	Watch    bool       `help:"Reload the configuration file whenever it changes."`
	LogLevel slog.Level `default:"info" help:"debug, info, warn or error."`
}

// Run serves until a signal arrives. Without -c and without a millrace.yaml it exposes every service at /NAME.
func (c *runCmd) Run(ctx context.Context, out console, signals *signals) error {
	before, _ := os.Stat(c.path()) // nil if there is no file; options handles that
	opts, serves, err := c.options(ctx, out)
	if err != nil {
		return err
	}
	s := serving{open: opener(opts), linger: opts.Config.Edge.Linger.Std(), out: out, signals: signals}
	if c.Watch {
		if opts.ConfigPath == "" {
			return usageError("--watch needs a configuration file: name one with -c")
		}
		s.changes = watch(ctx, opts.ConfigPath, before, watchEvery)
	}
	s.banner = func(n *embedded.Node, ready *readiness) {
		printBanner(out.stdout, n, opts.Config.Node.Name, serves, clientHint(n, opts.Config), firstPath(opts.Config),
			ready)
	}
	return s.run(ctx)
}

// options reads the configuration. Without a file every service is exposed, and serves says so for the banner.
func (c *runCmd) options(ctx context.Context, out console) (opts embedded.Options, serves string, err error) {
	opts = embedded.Options{Log: logger(out.stderr, true, c.LogLevel), Version: version()}
	file, err := config.Read(c.path())
	switch {
	case err == nil:
		for _, w := range file.Warnings {
			opts.Log.WarnContext(ctx, "configuration has a warning", "place", w.Place(), "warning", w.Message)
		}
		opts.Config, opts.ConfigText, opts.ConfigPath = *file.Config, string(file.Text), c.path()
		return opts, "", nil
	case c.Config == "" && errors.Is(err, os.ErrNotExist):
		opts.Config = node.Default()
		opts.Config.Edge.Expose = []string{"*"}
		opts.Log.WarnContext(ctx, "there is no configuration file: every service of the mesh is exposed at /NAME",
			"file", c.path())
		return opts, "every service of the mesh, at /NAME: there is no " + c.path(), nil
	}
	return opts, "", fmt.Errorf("start: %w", err)
}

// clientHint says how members connect, without the token: what a service prints ends up in logs.
func clientHint(n *embedded.Node, cfg node.Config) string {
	if cfg.Mesh.URL != "" {
		return n.Status().NATS
	}
	return n.Status().NATS + "  URL with token: " + filepath.Join(cfg.Node.Data, "client.url")
}

// firstPath is a path to try: that of the first route without parameters.
func firstPath(cfg node.Config) string {
	for _, r := range cfg.Routes {
		if len(r.Path.Params()) == 0 && r.Host == "" {
			p := r.Path
			p.Rest = false
			if len(p.Segments) == 0 {
				return "/"
			}
			return p.Canonical()
		}
	}
	if len(cfg.Edge.Expose) > 0 {
		return "/hello"
	}
	return "/"
}
