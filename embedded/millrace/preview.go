package main

import (
	"context"

	"millrace/node"
)

type previewCmd struct {
	siteOptions
	Dir    string `arg:"" help:"The folder that the build writes."`
	Listen string `placeholder:"ADDR" help:"Address for HTTP clients (default: 127.0.0.1:8080, or a free port)."`
}

// Run serves the folder as a published site would be, until a signal arrives. Each change of the folder is published.
func (c *previewCmd) Run(ctx context.Context, out console, signals *signals) error {
	s := serveCmd{siteOptions: c.siteOptions, Dir: c.Dir, Listen: c.Listen}
	cfg := node.Default()
	if err := s.fill(&cfg); err != nil {
		return err
	}
	page := cfg.Sites.Named[localSite].SPA
	local := localFolder{dir: c.Dir, flags: c.folderFlags, page: page, watch: true, plain: true}
	return local.serve(ctx, out, signals, c.Listen != "", s.fill)
}
