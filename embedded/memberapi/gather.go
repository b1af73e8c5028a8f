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
	// Gather answers as a route with this gather would. A *node.Error may be shown to the member, other errors may not.
	Gather(ctx context.Context, r *node.Route, host string, header mesh.Header) (*mesh.Response, error)
	// FollowPurges prepares the cache for calls that are cached.
	FollowPurges(ctx context.Context) error
}

// gather answers api.gather: a node makes several calls for a member.
type gather struct {
	calls   Gatherer
	applied func() *node.Config
	log     *slog.Logger
}

// gatherRequest is the payload of api.gather: the fields of a route's gather, and what the calls send.
type gatherRequest struct {
	Mode        json.RawMessage   `json:"mode,omitempty"`
	Quorum      json.RawMessage   `json:"quorum,omitempty"`
	Concurrency json.RawMessage   `json:"concurrency,omitempty"`
	Calls       json.RawMessage   `json:"calls"`
	Timeout     json.RawMessage   `json:"timeout,omitempty"`
	Host        string            `json:"host,omitempty"`
	Headers     map[string]string `json:"headers,omitempty"`
}

// gatherReply is the answer. Body is what a route with the same gather would send.
type gatherReply struct {
	Status  int             `json:"status"`
	Body    json.RawMessage `json:"body"`
	Partial []string        `json:"partial,omitempty"` // calls that failed or were replaced by their fallback
	Timing  string          `json:"timing,omitempty"`  // the value of Server-Timing
}

// maxGather bounds the payload of api.gather, since it is parsed like a configuration.
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

// header returns the fields that the calls send, sorted by name. ok is false if a field contains a control character.
func (r *gatherRequest) header() (header mesh.Header, ok bool) {
	for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
		if strings.ContainsFunc(name+r.Headers[name], func(c rune) bool { return c < ' ' || c == 0x7f }) {
			return nil, false
		}
		header.Add(name, r.Headers[name])
	}
	return header, true
}

// replyOf converts a response. A body that isn't JSON becomes a JSON string.
func replyOf(resp *mesh.Response) gatherReply {
	reply := gatherReply{Status: resp.Status, Body: resp.Body, Timing: resp.Header.Get("Server-Timing")}
	if !json.Valid(resp.Body) {
		reply.Body, _ = json.Marshal(string(resp.Body)) // a string always marshals
	}
	if partial := resp.Header.Get("Millrace-Partial"); partial != "" {
		reply.Partial = strings.Split(partial, ", ")
	}
	return reply
}
