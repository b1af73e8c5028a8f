package mesh

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"millrace/node"
)

// Check verifies that an existing NATS server can carry the mesh: its message limit, JetStream, and the permissions to
// join a group, to publish, and to get an answer. The error says what is missing and how to fix it.
func (c *Conn) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if got := c.nc.MaxPayload(); got < int64(node.MaxMessage) {
		return fmt.Errorf("check NATS: max_payload is %d bytes: set it to %d or more on the server", got,
			int64(node.MaxMessage))
	}
	if _, err := c.nc.RequestWithContext(ctx, "$JS.API.INFO", nil); err != nil {
		return fmt.Errorf("check NATS: JetStream doesn't answer: enable it for this account, and allow requests to "+
			"$JS.API.>: %w", err)
	}
	subject := c.Service("millrace-check-" + c.id).subject
	// If the answer is lost, the check fails.
	sub, err := c.nc.QueueSubscribe(subject, QueueGroup, func(msg *nats.Msg) { _ = msg.Respond([]byte("ok")) })
	if err != nil {
		return fmt.Errorf("check NATS: subscribe to %s: %w", subject, err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only on a broken connection
	_, err = c.nc.RequestWithContext(ctx, subject, nil)
	switch {
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, nats.ErrPermissionViolation),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return fmt.Errorf("check NATS: a request to %s gets no answer: this user must be allowed to publish and "+
			"subscribe to %s>, and to subscribe to %s>: %w",
			subject, c.cfg.Prefix, inboxRoot, err)
	case err != nil:
		return fmt.Errorf("check NATS: request %s: %w", subject, err)
	}
	return nil
}
