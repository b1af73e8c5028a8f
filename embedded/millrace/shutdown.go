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

// errCutOff means that a second signal ended a node before its requests were done.
var errCutOff = errors.New("ended at once, as asked")

// How often a shutdown tells what it waits for, and how long it may take once it is to end at once.
const (
	waitTold  = time.Second
	cutWithin = time.Second
)

// shutdown drains the node: it waits for the linger, unless a person stops the node by hand and nobody uses it, and for
// what runs. A second signal cuts off what is left.
func (s *serving) shutdown(ctx context.Context, n *embedded.Node, r *reloader) error {
	n.Log().InfoContext(ctx, "draining", "linger", s.linger)
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.linger+drainTime)
	defer cancel()
	if askedBy(ctx) != syscall.SIGTERM {
		n.Hurry()
	}
	done := make(chan error, 1)
	go func() {
		err := n.Shutdown(drain)
		r.end(drain)
		done <- err
	}()
	first := time.NewTimer(quickEnd)
	defer first.Stop()
	told := -1
	for {
		select {
		case err := <-done:
			if err != nil {
				return fmt.Errorf("shut down: %w", err)
			}
			return nil
		case <-first.C:
			told = s.tell(ctx, n, told)
			first.Reset(waitTold)
		case <-s.signals.again:
			cancel()
			return s.cut(n, done)
		}
	}
}

// quickEnd is how long a shutdown says nothing: most end within it.
const quickEnd = 500 * time.Millisecond

// tell says what the shutdown waits for, if that has changed.
func (s *serving) tell(ctx context.Context, n *embedded.Node, told int) int {
	waiting := n.Waiting()
	if waiting == told {
		return told
	}
	n.Log().InfoContext(ctx, "waiting for requests, and for load balancers to see that the node goes away",
		"requests", waiting, "linger", s.linger)
	if askedBy(ctx) == os.Interrupt {
		fmt.Fprintf(s.out.stdout, "waiting for %s; press Ctrl-C again to end at once\n",
			awaited(waiting, len(n.Limits().Rules()) > 0))
	}
	return waiting
}

// awaited says what a shutdown waits for, on a node with limits or without.
func awaited(requests int, limits bool) string {
	switch {
	case requests > 0:
		return count(requests, "request")
	case limits:
		return "the store to take back permits and leases"
	}
	return "the node to close its stores"
}

// cut waits for a shutdown that doesn't wait any more, but not for long.
func (s *serving) cut(n *embedded.Node, done <-chan error) error {
	left := n.Waiting()
	timer := time.NewTimer(cutWithin)
	defer timer.Stop()
	select {
	case <-done: //nolint:errcheck // what it says is that it was cut off
	case <-timer.C:
	}
	return fmt.Errorf("%w: %s cut off", errCutOff, count(left, "request"))
}
