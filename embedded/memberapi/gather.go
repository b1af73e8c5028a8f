package memberapi

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"millrace/mesh"
	"millrace/node"
)

// Gatherer makes several calls at once.
type Gatherer interface {
	// Gather answers as the route would. Its error is a *node.Error, or nothing to be shown.
	Gather(ctx context.Context, r *node.Route, host string, header mesh.Header) (*mesh.Response, error)
	// FollowPurges makes the cache ready for calls that are cached.
	FollowPurges(ctx context.Context) error
}

// gather answers api.gather: members have several calls made at once.
type gather struct {
	calls   Gatherer
	applied func() *node.Config
	log     *slog.Logger
}

// gatherRequest is the payload of api.gather: what a route with gather has, and what the calls carry.
type gatherRequest struct {
	Mode        json.RawMessage   `json:"mode,omitempty"`
	Quorum      json.RawMessage   `json:"quorum,omitempty"`
	Concurrency json.RawMessage   `json:"concurrency,omitempty"`
	Calls       json.RawMessage   `json:"calls"`
	Timeout     json.RawMessage   `json:"timeout,omitempty"`
	Host        string            `json:"host,omitempty"`
	Headers     map[string]string `json:"headers,omitempty"`
}

// gatherReply is the answer. Body is what a route with the same gather would answer.
type gatherReply struct {
	Status  int             `json:"status"`
	Body    json.RawMessage `json:"body"`
	Partial []string        `json:"partial,omitempty"` // calls that failed, or that something stands in for
	Timing  string          `json:"timing,omitempty"`  // as Server-Timing
}

// maxGather bounds the payload of api.gather, since it is read as a configuration is.
const maxGather = 64 << 10

func (g *gather) answer(ctx context.Context, _ string, payload []byte) any {
	if len(payload) > maxGather {
		return refusal{"the request is longer than 64 KiB", node.CodeTooLarge}
	}
	var req gatherRequest
	if wrong := readPayload(payload, &req,
		`{"calls": {"user": {"to": "service:users", "path": "/users/7"}}}`); wrong != nil {
		return wrong
	}
	route, err := req.route(g.applied())
	if err != nil {
		return refusal{err.Error(), node.CodeInvalid}
	}
	if route.Gather.Caches() {
		if err := g.calls.FollowPurges(ctx); err != nil {
			g.log.WarnContext(ctx, "calls of a gather are not cached", "cause", err)
		}
	}
	header, ok := req.header()
	if !ok {
		return refusal{"a header field holds a control character", node.CodeInvalid}
	}
	resp, err := g.calls.Gather(ctx, route, req.Host, header)
	if err != nil {
		if e, ok := errors.AsType[*node.Error](err); ok {
			return refusal{e.Text, e.Code}
		}
		return refusal{"the request failed inside the node", node.CodeInternal}
	}
	return replyOf(resp)
}

// header gives the fields of the calls in the order of their names. It reports false if one holds what no field may.
func (r *gatherRequest) header() (header mesh.Header, ok bool) {
	for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
		if strings.ContainsFunc(name+r.Headers[name], func(c rune) bool { return c < ' ' || c == 0x7f }) {
			return nil, false
		}
		header.Add(name, r.Headers[name])
	}
	return header, true
}

// replyOf tells a response as JSON. A body that isn't JSON becomes a text.
func replyOf(resp *mesh.Response) gatherReply {
	reply := gatherReply{Status: resp.Status, Body: resp.Body, Timing: resp.Header.Get("Server-Timing")}
	if !json.Valid(resp.Body) {
		reply.Body, _ = json.Marshal(string(resp.Body)) // a text always marshals
	}
	if partial := resp.Header.Get("Millrace-Partial"); partial != "" {
		reply.Partial = strings.Split(partial, ", ")
	}
	return reply
}
