package upstream

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"millrace/mesh"
	"millrace/node"
)

// watch checks one target until ctx ends: at once, and then every interval, a tenth more or less so that nodes don't
// check in step.
func (t *target) checkHealth(ctx context.Context, h node.Health) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			switch err := t.checkOnce(ctx, h); {
			case ctx.Err() != nil:
			case isNodeLimit(err): // it says nothing about the target
				_ = t.reportFailure(ctx, &mesh.Request{Route: "health"}, err)
			default:
				t.recordCheck(err, h)
			}
			interval := h.Interval.Std()
			timer.Reset(interval*9/10 + rand.N(interval/5+1)) //nolint:gosec // G404: jitter needs no secrets
		}
	}
}

// check asks once, on a connection of its own: a pooled one would say that the target lived a while ago.
func (t *target) checkOnce(ctx context.Context, h node.Health) error {
	ctx, cancel := context.WithTimeout(ctx, h.Timeout.Std())
	defer cancel()
	c, err := t.pool.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return fmt.Errorf("check health: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) }) // fails only on a closed connection
	defer stop()
	req := &mesh.Request{
		Method: "GET", Target: h.Path, Host: t.pool.host,
		Header: mesh.Header{{Name: "User-Agent", Value: "millrace-health"}, {Name: "Connection", Value: "close"}},
	}
	if err := c.sendHead(req); err != nil {
		return err
	}
	answer, err := c.finalHead(req, nil) // the status says it all: the page may be as long as it likes
	if err != nil {
		return err
	}
	if answer.status >= 400 {
		return fmt.Errorf("check health: status %d", answer.status)
	}
	return nil
}
