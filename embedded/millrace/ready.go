package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"millrace/embedded"
)

const (
	readyPatience = 5 * time.Second // a node that isn't ready after this logs what it waits for
	readyReminder = time.Minute     // and again at this interval
)

// readiness reports in banner and log that a node is ready.
type readiness struct {
	out   io.Writer // of the banner
	begun time.Time // the start
	known bool      // the node was ready when the banner was printed
}

// newReadiness checks once whether the node is ready. If so, the banner says it, and needs no further line.
func newReadiness(out io.Writer, n *embedded.Node, begun time.Time) *readiness {
	return &readiness{out: out, begun: begun, known: n.Ready()}
}

// String is the text for the banner.
func (r *readiness) String() string {
	if !r.known {
		return "started, not ready yet"
	}
	return fmt.Sprintf("ready in %d ms", time.Since(r.begun).Milliseconds())
}

// report starts a goroutine that reports when the node is ready and, until then, what it waits for. end stops it.
func (r *readiness) report(ctx context.Context, n *embedded.Node) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for patience := readyPatience; !r.await(ctx, n, patience); patience = readyReminder {
			if ctx.Err() != nil {
				return
			}
			n.Log().WarnContext(ctx, "not ready yet", "waits_for", n.Status().Degraded)
		}
		if !r.known {
			fmt.Fprintf(r.out, "ready in %d ms\n", time.Since(r.begun).Milliseconds())
		}
		n.Log().InfoContext(ctx, "ready", "edge", n.EdgeURL(), "admin", n.AdminURL(), "took", time.Since(r.begun))
	}()
	return func() {
		cancel()
		<-ended
	}
}

func (r *readiness) await(ctx context.Context, n *embedded.Node, patience time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return n.AwaitReady(ctx) == nil
}
