package main

import (
	"slices"

	"github.com/alecthomas/kong"
)

type helpCmd struct {
	Command []string `arg:"" optional:"" help:"The command to tell of, such as run."`
}

// Run prints what --help prints.
func (c *helpCmd) Run(app *kong.Kong, exited *exit) error {
	_, err := app.Parse(append(slices.Clone(c.Command), "--help"))
	if *exited >= 0 { // help was printed; an error about missing arguments doesn't matter
		return nil
	}
	return usageError(err.Error())
}
