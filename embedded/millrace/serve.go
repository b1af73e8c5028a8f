package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"millrace/embedded"
)

// drainTime is how long a shutdown may take beyond the linger.
const drainTime = 30 * time.Second

// serve opens a node, prints the banner to out, says when the node is ready, and shuts it down when ctx ends. It
// reloads on SIGHUP and for each of changes,
// which may be nil.
func serve(ctx context.Context, out io.Writer, open func(context.Context) (*embedded.Node, error), changes <-chan struct{}, linger time.Duration, banner func(*embedded.Node, *readiness)) error {
	reloads := make(chan os.Signal, 1)
	signal.Notify(reloads, syscall.SIGHUP) // before Open: a signal during the start must not end the process
	defer signal.Stop(reloads)
	begin := time.Now()
	n, err := open(ctx)
	if err != nil {
		if ctx.Err() != nil { // a signal ended the start, as it should
			return nil
		}
		return fmt.Errorf("start: %w", err)
	}
	limitMemory()
	ready := newReadiness(out, n, begin)
	banner(n, ready)
	defer ready.tell(ctx, n)()
	r := newReloader(ctx, n)
	for {
		select {
		case <-reloads:
			if !n.Reloadable() { // the terminal is gone, and with it who started a proxy or demo
				return shutdown(ctx, n, r, linger)
			}
			r.ask()
		case <-changes:
			r.ask()
		case <-ctx.Done():
			return shutdown(ctx, n, r, linger)
		}
	}
}

// opener gives a function that makes and opens a node.
func opener(opts embedded.Options) func(context.Context) (*embedded.Node, error) {
	return func(ctx context.Context) (*embedded.Node, error) {
		n, err := embedded.New(opts)
		if err != nil {
			return nil, err //nolint:wrapcheck // serve says what it was for
		}
		if err := n.Open(ctx); err != nil {
			return nil, err //nolint:wrapcheck // see above
		}
		return n, nil
	}
}

func shutdown(ctx context.Context, n *embedded.Node, r *reloader, linger time.Duration) error {
	n.Log().InfoContext(ctx, "draining", "linger", linger)
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), linger+drainTime)
	defer cancel()
	err := n.Shutdown(drain)
	r.end(drain)
	if err != nil {
		return fmt.Errorf("shut down: %w", err)
	}
	return nil
}

// reloader reloads a node, one time after the other, in a goroutine of its own: a reload waits for requests, and a signal to
// stop must not wait for it.
type reloader struct {
	asked chan struct{} // closed by end; an ask that finds one waiting has nothing to add
	ended chan struct{}
}

func newReloader(ctx context.Context, n *embedded.Node) *reloader {
	r := &reloader{asked: make(chan struct{}, 1), ended: make(chan struct{})}
	go func() {
		defer close(r.ended)
		for range r.asked {
			if _, err := n.Reload(ctx); err != nil { // the node itself tells in log and journal what came of it
				n.Log().ErrorContext(ctx, "reload refused", "cause", err)
			}
		}
	}()
	return r
}

// ask lets the node be reloaded soon.
func (r *reloader) ask() {
	select {
	case r.asked <- struct{}{}:
	default:
	}
}

// end waits for the reload that runs, at most until ctx ends.
func (r *reloader) end(ctx context.Context) {
	close(r.asked)
	select {
	case <-r.ended:
	case <-ctx.Done():
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
func printBanner(w io.Writer, n *embedded.Node, name, target, client, try string, ready *readiness) {
	edge := n.EdgeURL()
	if target != "" {
		target = "  → " + target
	}
	fmt.Fprintf(w, "millrace %s  node %s  %s\n", version(), name, ready)
	fmt.Fprintf(w, "├─ edge   %s%s\n", edge, target)
	fmt.Fprintf(w, "├─ admin  %s/v1/status\n", n.AdminURL())
	fmt.Fprintf(w, "├─ NATS   %s\n", client)
	fmt.Fprintf(w, "└─ try    curl -i %s%s\n", edge, try)
}
