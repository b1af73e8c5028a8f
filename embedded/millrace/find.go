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

// endpoint is a possible address of a node's admin API, with its token.
type endpoint struct{ url, token string }

// find returns the endpoints to try, in this order:
//
//  1. The value of --admin, if it is set; then it is the only one.
//  2. What the running node has written into its data directory.
//  3. What the configuration file says.
//
// The file may have changed since the node read it, or have mistakes, which is when one needs to ask the node.
func (f adminFlags) find(out console) ([]endpoint, error) {
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
		return []endpoint{f.fromFlag(running, cfg)}, nil
	}
	var endpoints []endpoint
	if err == nil {
		endpoints = append(endpoints, endpoint{running.Admin, running.Token})
	}
	written := endpoint{"http://" + cfg.Admin.Listen.Dial(), cfg.Admin.Token}
	if len(endpoints) == 0 || endpoints[0].url != written.url {
		endpoints = append(endpoints, written)
	}
	for i := range endpoints {
		if f.Token != "" {
			endpoints[i].token = f.Token
		}
	}
	if mistakes != nil && !missing {
		f.warn(out, cfg, err)
	}
	return endpoints, nil
}

// fromFlag is the endpoint of --admin. Without --token it uses the token of the same node.
func (f adminFlags) fromFlag(running embedded.Running, cfg *node.Config) endpoint {
	at := endpoint{url: strings.TrimSuffix(f.Admin, "/"), token: f.Token}
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

// warn prints that the file has mistakes, and which endpoint is asked instead.
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
