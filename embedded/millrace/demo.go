package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"millrace/embedded"
	"millrace/embedded/demo"
)

type demoCmd struct {
	Once bool `help:"Take the tour, print what happened, and exit; fails if anything was not as it said."`
}

// Run starts the node, the samples and a member. Its data directory is temporary.
func (c *demoCmd) Run(ctx context.Context, out console, signals *signals) (err error) {
	cfg, remove, err := temporaryConfig()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	samples, err := demo.Start(ctx)
	if err != nil {
		return fmt.Errorf("start the sample upstreams: %w", err)
	}
	defer func() { err = errors.Join(err, samples.Close()) }()
	samples.Configure(&cfg)
	opts := embedded.Options{Config: cfg, Log: logger(out.stderr, false, slog.LevelWarn), Version: version()}
	ctx, done := context.WithCancel(ctx)
	defer done()
	var tourErr error
	s := serving{open: temporary(opts, false), linger: cfg.Edge.Linger.Std(), out: out, signals: signals}
	s.banner = func(n *embedded.Node, ready *readiness) {
		if tourErr = samples.Subscribe(n.ClientURL()); tourErr != nil {
			done()
			return
		}
		printBanner(out.stdout, n, cfg.Node.Name, "two sample upstreams and the service hello", n.ClientURL(), "/hello",
			ready)
		if c.Once {
			tourErr = demo.Tour(ctx, out.stdout, n.EdgeURL(), n.AdminURL())
			done()
			return
		}
		demo.Suggest(out.stdout, n.EdgeURL(), n.ClientURL())
	}
	err = s.run(ctx)
	return errors.Join(tourErr, err)
}
