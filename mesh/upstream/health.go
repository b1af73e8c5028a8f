package upstream

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"millrace/mesh"
	"millrace/node"
)

// checkHealth checks one target until ctx ends: at once, and then every interval, plus or minus a tenth so that nodes
// don't check in step.
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
			case isNodeLimit(err): // says nothing about the target
				_ = t.reportFailure(ctx, &mesh.Request{Route: "health"}, err)
			default:
				t.recordCheck(err, h)
			}
			interval := h.Interval.Std()
			timer.Reset(interval*9/10 + rand.N(interval/5+1)) //nolint:gosec // G404: jitter needs no secrets
		}
	}
}

// checkOnce makes one check on a new connection. A pooled one would only show that the target was alive earlier.
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
	answer, err := c.finalHead(req, nil) // the status is enough; the body isn't read
	if err != nil {
		return err
	}
	if answer.status >= 400 {
		return fmt.Errorf("check health: status %d", answer.status)
	}
	return nil
}
