package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"millrace/edge"
	"millrace/edge/admin"
	"millrace/embedded"
	"millrace/embedded/natsserver"
	"millrace/node"
)

// temporaryConfig returns a configuration with a new temporary data directory; remove deletes that.
func temporaryConfig() (cfg node.Config, remove func() error, err error) {
	dir, err := os.MkdirTemp("", "millrace-*")
	if err != nil {
		return cfg, nil, fmt.Errorf("make a temporary data directory: %w", err)
	}
	cfg = node.Default()
	cfg.Node.Data = dir
	cfg.Edge.Linger = node.Duration(time.Second)
	return cfg, func() error { return os.RemoveAll(dir) }, nil
}

// temporary returns a function that opens the node of demo and proxy. Other nodes may run on the machine, so it uses
// free ports where the default ones are taken. If another program takes a port between the check and the start, it uses
// any free ports. edgeFixed means that the user chose the edge's address.
func temporary(opts embedded.Options, edgeFixed bool) func(context.Context) (*embedded.Node, error) {
	return func(ctx context.Context) (*embedded.Node, error) {
		n, err := opener(withPorts(opts, edgeFixed, func(a node.Address) node.Address { return free(ctx, a) }))(ctx)
		if portInUse(err) {
			return opener(withPorts(opts, edgeFixed, anyPort))(ctx)
		}
		return n, err
	}
}

func withPorts(opts embedded.Options, edgeFixed bool, choose func(node.Address) node.Address) embedded.Options {
	cfg := &opts.Config
	if !edgeFixed {
		cfg.Edge.Listen = choose(cfg.Edge.Listen)
	}
	cfg.Admin.Listen = choose(cfg.Admin.Listen)
	cfg.Mesh.Listen = choose(cfg.Mesh.Listen)
	return opts
}

func portInUse(err error) bool {
	return errors.Is(err, edge.ErrPortInUse) || errors.Is(err, admin.ErrPortInUse) ||
		errors.Is(err, natsserver.ErrPortInUse)
}

// free returns the address, or the same host with any port if it is taken.
func free(ctx context.Context, addr node.Address) node.Address {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", string(addr))
	if err == nil {
		_ = l.Close() // nothing was accepted
		return addr
	}
	return anyPort(addr)
}

func anyPort(addr node.Address) node.Address {
	host, _, err := net.SplitHostPort(string(addr))
	if err != nil {
		return addr
	}
	return node.Address(net.JoinHostPort(host, "0"))
}
