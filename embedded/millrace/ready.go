package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"millrace/embedded"
)

// How long a node may need to be ready before its log says what it waits for, and how often it then says so.
const (
	readyPatience = 5 * time.Second
	readyReminder = time.Minute
)

// readiness is when a node is ready, as banner and log tell it.
type readiness struct {
	out   io.Writer // of the banner
	begun time.Time // the start
	known bool      // it was told with the banner
}

// newReadiness looks at the node once, so that one that is ready as soon as it is open needs no line of its own.
func newReadiness(out io.Writer, n *embedded.Node, begun time.Time) *readiness {
	return &readiness{out: out, begun: begun, known: n.Ready()}
}

// String is for the banner.
func (r *readiness) String() string {
	if !r.known {
		return "started, not ready yet"
	}
	return fmt.Sprintf("ready in %d ms", time.Since(r.begun).Milliseconds())
}

// tell says that the node is ready once it is, and meanwhile what it waits for. end ends it.
func (r *readiness) tell(ctx context.Context, n *embedded.Node) (end func()) {
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
