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

// drainTime is how long a shutdown may take beyond the linger.
const drainTime = 30 * time.Second

// serving is a node that runs until it is asked to end.
type serving struct {
	open    func(context.Context) (*embedded.Node, error)
	changes <-chan struct{} // each asks for a reload; may be nil
	linger  time.Duration
	banner  func(n *embedded.Node, ready *readiness)
	out     console
	signals *signals
}

// run opens the node, prints the banner, says when the node is ready, and shuts it down when ctx ends. It reloads on
// SIGHUP and for each of changes.
func (s *serving) run(ctx context.Context) error {
	reloads := make(chan os.Signal, 1)
	signal.Notify(reloads, syscall.SIGHUP) // before Open: a signal during the start must not end the process
	defer signal.Stop(reloads)
	begin := time.Now()
	n, err := s.open(ctx)
	if err != nil {
		if ctx.Err() != nil { // a signal ended the start, as it should
			return nil
		}
		return fmt.Errorf("start: %w", err)
	}
	s.signals.hold()
	n.UseGC(limitMemory())
	ready := newReadiness(s.out.stdout, n, begin)
	s.banner(n, ready)
	defer ready.tell(ctx, n)()
	r := newReloader(ctx, n)
	for {
		select {
		case <-reloads:
			if !n.Reloadable() { // the terminal is gone, and with it who started a proxy or demo
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

// reloader reloads a node, one time after the other, in a goroutine of its own: a reload waits for requests, and a
// signal to stop must not wait for it.
type reloader struct {
	asked chan struct{} // closed by end; an ask that finds one waiting has nothing to add
	ended chan struct{}
}

func newReloader(ctx context.Context, n *embedded.Node) *reloader {
	r := &reloader{asked: make(chan struct{}, 1), ended: make(chan struct{})}
	go func() {
		defer close(r.ended)
		for range r.asked {
			_, _ = n.Reload(ctx) // the node itself tells in log and journal what came of it
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
