package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"millrace/embedded"
)

// errCutOff means that a second signal stopped the node before its requests had finished.
var errCutOff = errors.New("ended at once, as asked")

const (
	reportEvery  = time.Second // the interval of the reports about what a shutdown waits for
	forceEndTime = time.Second // bounds a shutdown after the second signal
)

// shutdown drains the node: it waits for the linger and for running requests. If a person stops the node by hand, the
// linger ends once the node is idle. A second signal cancels what still runs.
func (s *serving) shutdown(ctx context.Context, n *embedded.Node, r *reloader) error {
	n.Log().InfoContext(ctx, "draining", "linger", s.linger)
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.linger+drainTime)
	defer cancel()
	if endedBy(ctx) != syscall.SIGTERM {
		n.EndLingerWhenIdle()
	}
	done := make(chan error, 1)
	go func() {
		err := n.Shutdown(drain)
		r.end(drain)
		done <- err
	}()
	first := time.NewTimer(firstReport)
	defer first.Stop()
	reported := -1
	for {
		select {
		case err := <-done:
			if err != nil {
				return fmt.Errorf("shut down: %w", err)
			}
			return nil
		case <-first.C:
			reported = s.reportWaiting(ctx, n, reported)
			first.Reset(reportEvery)
		case <-s.signals.again:
			cancel()
			return s.forceEnd(n, done)
		}
	}
}

// firstReport is when a shutdown first reports what it waits for. Most end before.
const firstReport = 500 * time.Millisecond

// reportWaiting reports the number of requests that the shutdown waits for, unless it is still the last one reported.
// It returns the number.
func (s *serving) reportWaiting(ctx context.Context, n *embedded.Node, last int) int {
	waiting := n.Waiting()
	if waiting == last {
		return last
	}
	n.Log().InfoContext(ctx, "waiting for requests, and for load balancers to see that the node goes away",
		"requests", waiting, "linger", s.linger)
	if endedBy(ctx) == os.Interrupt {
		fmt.Fprintf(s.out.stdout, "waiting for %s; press Ctrl-C again to end at once\n",
			awaited(waiting, len(n.Limits().Rules()) > 0))
	}
	return waiting
}

// awaited says what a shutdown waits for, on a node with or without limits.
func awaited(requests int, limits bool) string {
	switch {
	case requests > 0:
		return count(requests, "request")
	case limits:
		return "the store to take back permits and leases"
	}
	return "the node to close its stores"
}

// forceEnd waits briefly for a shutdown whose context was canceled.
func (s *serving) forceEnd(n *embedded.Node, done <-chan error) error {
	left := n.Waiting()
	timer := time.NewTimer(forceEndTime)
	defer timer.Stop()
	select {
	case <-done: //nolint:errcheck // it says only that it was canceled
	case <-timer.C:
	}
	return fmt.Errorf("%w: %s cut off", errCutOff, count(left, "request"))
}
