package main

import (
	"cmp"
	"fmt"
	"strings"

	"millrace/node"
	"millrace/node/config"
)

type checkCmd struct {
	configFlag
	File string `arg:"" optional:"" help:"The file, in place of -c."`
}

// Run parses the file as a node would and reports every mistake. Warnings go to stderr and don't change the exit code.
func (c *checkCmd) Run(out console) error {
	if c.File != "" && c.Config != "" {
		return usageError("the file is named twice: leave -c out")
	}
	c.Config = cmp.Or(c.File, c.Config)
	file, err := config.Read(c.path())
	if err != nil {
		return fmt.Errorf("%w", err)
	}
	for _, w := range file.Warnings {
		fmt.Fprintln(out.stderr, w)
	}
	has := []string{count(len(file.Config.Routes), "route"), count(len(file.Config.Upstreams), "upstream")}
	if n := countSites(file.Config); n > 0 {
		has = append(has, count(n, "site"))
	}
	if n := len(file.Warnings); n > 0 {
		has = append(has, count(n, "warning"))
	}
	_, err = fmt.Fprintf(out.stdout, "%s is valid: %s\n", c.path(), strings.Join(has, ", "))
	if err != nil {
		return err
	}
	return printPreflight(out, file.Config)
}

// countSites returns how many sites the routes serve.
func countSites(cfg *node.Config) int {
	names := map[string]bool{}
	for i := range cfg.Routes {
		for _, name := range cfg.Routes[i].Sites() {
			names[name] = true
		}
	}
	return len(names)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

type schemaCmd struct{}

// Run prints the JSON Schema. Editors use it if the first line of a file is: # yaml-language-server: $schema=FILE.
func (schemaCmd) Run(out console) error {
	_, err := fmt.Fprintf(out.stdout, "%s\n", config.Schema())
	return err
}
