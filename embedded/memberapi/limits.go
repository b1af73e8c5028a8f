package memberapi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"millrace/kvcache/limit"
	"millrace/node"
)

// Limits are the limits of the configuration.
type Limits interface {
	// Rule returns the limit of a name; nil if there is none.
	Rule(name string) *limit.Rule
	// Key returns the key of a client under any of its names, as the edge would for a request of that client.
	Key(r *limit.Rule, client string) limit.Key
}

// limits answers api.limit.take: members take permits.
type limits struct{ limits Limits }

// limitRequest is the payload of api.limit.take.
type limitRequest struct {
	Limit string `json:"limit"`
	Key   string `json:"key"`
	Cost  int    `json:"cost"`
}

// limitReply is the answer. Times are in milliseconds.
type limitReply struct {
	OK        bool   `json:"ok"`
	Max       uint32 `json:"max"`
	Remaining uint32 `json:"remaining"`
	ResetMS   int64  `json:"reset_ms"`
}

// limitTime bounds a request, in addition to the time that it may queue.
const limitTime = 5 * time.Second

func (l limits) answer(ctx context.Context, op string, payload []byte) any {
	req := limitRequest{Cost: 1}
	if wrong := readPayload(payload, &req, `{"limit": "tenant", "key": "acme"}`); wrong != nil {
		return wrong
	}
	r := l.limits.Rule(req.Limit)
	switch {
	case r == nil:
		return refusal{"there is no such limit: name one of the configuration", node.CodeNotFound}
	case op != "take":
		return refusal{"ask api.limit.take", node.CodeNotFound}
	case r.Occupies():
		return refusal{"a limit on requests in flight can't be taken by a message", node.CodeInvalid}
	case req.Cost < 1 || req.Cost > max(r.Limit.Room(), 1):
		return refusal{fmt.Sprintf("the cost must be 1 to %d", max(r.Limit.Room(), 1)), node.CodeInvalid}
	}
	ctx, cancel := context.WithTimeout(ctx, limitTime+r.Limit.MaxWait.Std())
	defer cancel()
	d, err := r.Take(ctx, l.limits.Key(r, req.Key), uint32(req.Cost)) //nolint:gosec // G115: checked above
	switch {
	case errors.Is(err, limit.ErrQueueFull):
		return refusal{err.Error(), node.CodeBusy}
	case err != nil:
		return refusal{limit.ErrAway.Error(), node.CodeUnavailable}
	}
	return limitReply{
		OK: d.Allowed, Max: d.Limit, Remaining: d.Remaining,
		ResetMS: int64((d.Reset + time.Millisecond - 1) / time.Millisecond),
	}
}
