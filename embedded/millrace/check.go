package main

import (
	"cmp"
	"fmt"

	"millrace/node/config"
)

type checkCmd struct {
	configFlag
	File string `arg:"" optional:"" help:"The file, in place of -c."`
}

// Run reads the file as a node would and reports every mistake.
func (c *checkCmd) Run(out console) error {
	if c.File != "" && c.Config != "" {
		return usageError("the file is named twice: leave -c out")
	}
	c.Config = cmp.Or(c.File, c.Config)
	cfg, _, err := config.Load(c.path())
	if err != nil {
		return fmt.Errorf("%w", err)
	}
	_, err = fmt.Fprintf(out.stdout, "%s is valid: %s, %s\n", c.path(), count(len(cfg.Routes), "route"), count(len(cfg.Upstreams), "upstream"))
	if err != nil {
		return err //nolint:wrapcheck // stdout is closed
	}
	return fits(out, cfg)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

type schemaCmd struct{}

// Run prints the JSON Schema. Editors take it by a first line in the file: # yaml-language-server: $schema=FILE.
func (schemaCmd) Run(out console) error {
	_, err := fmt.Fprintf(out.stdout, "%s\n", config.Schema())
	return err //nolint:wrapcheck // stdout is closed
}
