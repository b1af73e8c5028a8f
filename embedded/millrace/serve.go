package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"millrace/embedded"
	"millrace/node"
)

// drainTime is how long a shutdown may take beyond the linger.
const drainTime = 30 * time.Second

// serve opens a node, prints the banner, and shuts it down when ctx ends.
func serve(ctx context.Context, n *embedded.Node, linger time.Duration, banner func(ready time.Duration)) error {
	reloads := make(chan os.Signal, 1)
	signal.Notify(reloads, syscall.SIGHUP) // before Open: a signal during the start must not end the process
	defer signal.Stop(reloads)
	begin := time.Now()
	if err := n.Open(ctx); err != nil {
		if ctx.Err() != nil { // a signal ended the start, as it should
			return nil
		}
		return fmt.Errorf("start: %w", err)
	}
	ready := time.Since(begin)
	banner(ready)
	n.Log().InfoContext(ctx, "ready", "edge", n.EdgeURL(), "admin", n.AdminURL(), "took", ready)
	for {
		select {
		case <-reloads:
			if !n.Reloadable() { // the terminal is gone, and with it who started a proxy or demo
				return shutdown(ctx, n, linger)
			}
			reloadNode(ctx, n)
		case <-ctx.Done():
			return shutdown(ctx, n, linger)
		}
	}
}

func shutdown(ctx context.Context, n *embedded.Node, linger time.Duration) error {
	n.Log().InfoContext(ctx, "draining", "linger", linger)
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), linger+drainTime)
	defer cancel()
	if err := n.Shutdown(drain); err != nil {
		return fmt.Errorf("shut down: %w", err)
	}
	return nil
}

// reloadNode answers SIGHUP. The node itself tells in log and journal what came of it.
func reloadNode(ctx context.Context, n *embedded.Node) {
	if _, err := n.Reload(ctx); err != nil {
		n.Log().ErrorContext(ctx, "reload refused", "cause", err)
	}
}

// logger writes JSON for machines to read, or text for people.
func logger(w io.Writer, json bool, level slog.Level) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if json {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// printBanner says where the node is and what to try: one line a place, and nothing else.
// client is how members connect.
func printBanner(w io.Writer, n *embedded.Node, name, target, client, try string, ready time.Duration) {
	edge := n.EdgeURL()
	if target != "" {
		target = "  → " + target
	}
	fmt.Fprintf(w, "millrace %s  node %s  ready in %d ms\n", version(), name, ready.Milliseconds())
	fmt.Fprintf(w, "├─ edge   %s%s\n", edge, target)
	fmt.Fprintf(w, "├─ admin  %s/v1/status\n", n.AdminURL())
	fmt.Fprintf(w, "├─ NATS   %s\n", client)
	fmt.Fprintf(w, "└─ try    curl -i %s%s\n", edge, try)
}

// free gives the address, or the same host with any port when the default one is taken: demo and proxy start beside
// whatever runs already.
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

// temporaryConfig is the configuration of a node that leaves nothing behind; remove deletes its data.
func temporaryConfig(ctx context.Context) (cfg node.Config, remove func() error, err error) {
	dir, err := os.MkdirTemp("", "millrace-*")
	if err != nil {
		return cfg, nil, fmt.Errorf("make a temporary data directory: %w", err)
	}
	cfg = node.Default()
	cfg.Node.Data = dir
	cfg.Edge.Linger = node.Duration(time.Second)
	cfg.Edge.Listen, cfg.Admin.Listen, cfg.Mesh.Listen = free(ctx, cfg.Edge.Listen), free(ctx, cfg.Admin.Listen), free(ctx, cfg.Mesh.Listen)
	return cfg, func() error { return os.RemoveAll(dir) }, nil
}
