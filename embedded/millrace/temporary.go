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

// temporaryConfig is the configuration of a node that leaves nothing behind; remove deletes its data.
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

// temporary opens the node of demo and proxy: beside whatever runs already, on free ports where the default ones are
// taken. Another program may take a port between the look and the start; then it looks again. edgeFixed means that the
// user chose the edge's address.
func temporary(opts embedded.Options, edgeFixed bool) func(context.Context) (*embedded.Node, error) {
	const attempts = 3
	return func(ctx context.Context) (*embedded.Node, error) {
		var err error
		for range attempts {
			taken := opts
			if !edgeFixed {
				taken.Config.Edge.Listen = free(ctx, opts.Config.Edge.Listen)
			}
			taken.Config.Admin.Listen = free(ctx, opts.Config.Admin.Listen)
			taken.Config.Mesh.Listen = free(ctx, opts.Config.Mesh.Listen)
			var n *embedded.Node
			if n, err = opener(taken)(ctx); err == nil {
				return n, nil
			}
			if !portInUse(err) {
				break
			}
		}
		return nil, err
	}
}

func portInUse(err error) bool {
	return errors.Is(err, edge.ErrPortInUse) || errors.Is(err, admin.ErrPortInUse) || errors.Is(err, natsserver.ErrPortInUse)
}

// free gives the address, or the same host with any port when it is taken.
func free(ctx context.Context, addr node.Address) node.Address {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", string(addr))
	if err == nil {
		_ = l.Close() // nothing was accepted
		return addr
	}
	host, _, splitErr := net.SplitHostPort(string(addr))
	if splitErr != nil {
		return addr
	}
	return node.Address(net.JoinHostPort(host, "0"))
}
