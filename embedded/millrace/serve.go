package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"millrace/embedded"
)

// drainTime bounds a shutdown, in addition to the linger.
const drainTime = 30 * time.Second

// serving runs a node until a signal ends it.
type serving struct {
	open    func(context.Context) (*embedded.Node, error)
	changes <-chan struct{} // each element asks for a reload; may be nil
	linger  time.Duration
	banner  func(n *embedded.Node, ready *readiness)
	out     console
	signals *signals
}

// run opens the node, prints the banner, reports when the node is ready, and shuts it down when ctx ends. It reloads on
// SIGHUP and for each element of changes.
func (s *serving) run(ctx context.Context) error {
	reloads := make(chan os.Signal, 1)
	signal.Notify(reloads, syscall.SIGHUP) // before open: SIGHUP during the start must not end the process
	defer signal.Stop(reloads)
	begin := time.Now()
	n, err := s.open(ctx)
	if err != nil {
		if ctx.Err() != nil { // a signal ended the start
			return nil
		}
		return fmt.Errorf("start: %w", err)
	}
	s.signals.hold()
	n.UseGC(limitMemory())
	ready := newReadiness(s.out.stdout, n, begin)
	s.banner(n, ready)
	defer ready.report(ctx, n)()
	r := newReloader(ctx, n)
	for {
		select {
		case <-reloads:
			if !n.Reloadable() { // without a file to reload, SIGHUP means that the terminal was closed
				return s.shutdown(ctx, n, r)
			}
			r.ask()
		case <-s.changes:
			r.ask()
		case <-ctx.Done():
			return s.shutdown(ctx, n, r)
		}
	}
}

// opener returns a function that creates and opens a node.
func opener(opts embedded.Options) func(context.Context) (*embedded.Node, error) {
	return func(ctx context.Context) (*embedded.Node, error) {
		n, err := embedded.New(opts)
		if err != nil {
			return nil, err
		}
		if err := n.Open(ctx); err != nil {
			return nil, err
		}
		return n, nil
	}
}

// reloader runs the reloads of a node one after another, in a goroutine of its own: a reload may wait for requests, and
// a signal to stop must not wait for the reload.
type reloader struct {
	asked chan struct{} // capacity 1; closed by end. When it is full, a reload is due already
	ended chan struct{}
}

func newReloader(ctx context.Context, n *embedded.Node) *reloader {
	r := &reloader{asked: make(chan struct{}, 1), ended: make(chan struct{})}
	go func() {
		defer close(r.ended)
		for range r.asked {
			_, _ = n.Reload(ctx) // the node logs and records the outcome
		}
	}()
	return r
}

// ask requests a reload.
func (r *reloader) ask() {
	select {
	case r.asked <- struct{}{}:
	default:
	}
}

// end waits for the running reload, at most until ctx ends.
func (r *reloader) end(ctx context.Context) {
	close(r.asked)
	select {
	case <-r.ended:
	case <-ctx.Done():
	}
}

// printBanner prints the node's addresses, one per line, and a command to try. client says how members connect.
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
