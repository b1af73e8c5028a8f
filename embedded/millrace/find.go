package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"millrace/embedded"
	"millrace/node"
	"millrace/node/config"
)

// place is where a node's admin API may be.
type place struct{ url, token string }

// find lists where the node may be, the likeliest first: where --admin says; where the node that runs says itself, in
// its data directory; where the configuration file says. The file may have changed since the node has read it, or have
// mistakes: that is when one needs to ask.
func (f adminFlags) find(out console) ([]place, error) {
	cfg, _, mistakes := config.Load(f.path())
	missing := errors.Is(mistakes, os.ErrNotExist)
	if mistakes != nil && f.Config != "" && missing {
		return nil, fmt.Errorf("find the node: %w", mistakes)
	}
	if mistakes != nil {
		salvaged := config.Salvage(f.path())
		cfg = &salvaged
	}
	running, err := embedded.FindRunning(cfg.Node.Data)
	if f.Admin != "" {
		return []place{f.named(running, cfg)}, nil
	}
	var places []place
	if err == nil {
		places = append(places, place{running.Admin, running.Token})
	}
	written := place{"http://" + cfg.Admin.Listen.Dial(), cfg.Admin.Token}
	if len(places) == 0 || places[0].url != written.url {
		places = append(places, written)
	}
	for i := range places {
		if f.Token != "" {
			places[i].token = f.Token
		}
	}
	if mistakes != nil && !missing {
		f.warn(out, cfg, err)
	}
	return places, nil
}

// named is where --admin says. The token is that of the same node, if nobody says otherwise.
func (f adminFlags) named(running embedded.Running, cfg *node.Config) place {
	at := place{url: strings.TrimSuffix(f.Admin, "/"), token: f.Token}
	if !strings.Contains(at.url, "://") {
		at.url = "http://" + at.url
	}
	switch {
	case at.token != "":
	case running.Admin == at.url:
		at.token = running.Token
	default:
		at.token = cfg.Admin.Token
	}
	return at
}

// warn says that the file has mistakes, and by what the node is looked for all the same.
func (f adminFlags) warn(out console, cfg *node.Config, running error) {
	by := "the node that runs on " + cfg.Node.Data
	if running != nil {
		by = cfg.Admin.Listen.Dial()
		if !errors.Is(running, fs.ErrNotExist) {
			by += " (" + running.Error() + ")"
		}
	}
	fmt.Fprintf(out.stderr, "%s has mistakes (millrace check tells): asking %s\n", f.path(), by)
}
