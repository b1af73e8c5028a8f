package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"millrace/mesh"
	"millrace/node"
	"millrace/node/config"
)

// openGatherAPI lets members have several calls made at once. mesh/PROTOCOL.md has the protocol.
func (n *Node) openGatherAPI(context.Context) error { return n.openMemberAPI("gather", n.answerGather) }

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

func (n *Node) answerGather(ctx context.Context, _ string, payload []byte) any {
	if len(payload) > maxGather {
		return apiError{"the request is longer than 64 KiB", node.CodeTooLarge}
	}
	var req gatherRequest
	if wrong := readPayload(payload, &req,
		`{"calls": {"user": {"to": "service:users", "path": "/users/7"}}}`); wrong != nil {
		return wrong
	}
	route, err := n.gatherRoute(&req)
	if err != nil {
		return apiError{err.Error(), node.CodeInvalid}
	}
	if route.Gather.Caches() {
		if err := n.followPurges(ctx); err != nil {
			n.log.WarnContext(ctx, "calls of a gather are not cached", "cause", err)
		}
	}
	var header mesh.Header
	for _, name := range slices.Sorted(maps.Keys(req.Headers)) {
		if strings.ContainsFunc(name+req.Headers[name], func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return apiError{"a header field holds a control character", node.CodeInvalid}
		}
		header.Add(name, req.Headers[name])
	}
	resp, err := n.edge.Gather(ctx, route, req.Host, header)
	if err != nil {
		if e, ok := errors.AsType[*node.Error](err); ok {
			return apiError{e.Text, e.Code}
		}
		return apiError{"the request failed inside the node", node.CodeInternal}
	}
	return replyOf(resp)
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

// gatherRoute reads the request as the route that it would be in a configuration with the upstreams and limits of this
// node's, so that it is checked alike.
func (n *Node) gatherRoute(req *gatherRequest) (*node.Route, error) {
	applied, upstreams := n.applied.Load(), map[string]map[string]bool{}
	for name := range applied.Upstreams {
		upstreams[name] = map[string]bool{"remote": true}
	}
	gather := map[string]json.RawMessage{"calls": req.Calls}
	for key, value := range map[string]json.RawMessage{
		"mode": req.Mode, "quorum": req.Quorum,
		"concurrency": req.Concurrency,
	} {
		if value != nil {
			gather[key] = value
		}
	}
	route := map[string]any{"path": "/", "name": "api-gather", "gather": gather}
	if req.Timeout != nil {
		route["timeout"] = req.Timeout
	}
	named := map[string]string{}
	for name := range applied.Limits {
		named[name] = "1/s" // what it allows doesn't matter here
	}
	text, err := json.Marshal(map[string]any{
		"version": 1, "upstreams": upstreams, "limits": named,
		"routes": []any{route},
	})
	if err != nil {
		return nil, errors.New("the payload isn't JSON")
	}
	cfg, err := config.Parse("", text, nil)
	if err != nil {
		return nil, errors.New(gatherMistakes(err))
	}
	if err := mayCall(cfg.Routes[0].Gather, &applied.Mesh); err != nil {
		return nil, err
	}
	return &cfg.Routes[0], nil
}

// mayCall checks that a gather asks only whom members may have asked: a node may publish where they mustn't.
func mayCall(g *node.Gather, m *node.Mesh) error {
	for _, name := range slices.Sorted(maps.Keys(g.Calls)) {
		switch to := g.Calls[name].To; {
		case to.Kind == node.KindNATS:
			return fmt.Errorf("calls.%s.to: api.gather calls services and upstreams: write service:NAME or "+
				"upstream:NAME", name)
		case to.Kind == node.KindService && len(m.MemberCalls) > 0 && !listed(m.MemberCalls, to.Name):
			return fmt.Errorf("calls.%s.to: members may not call service %q: list it in mesh.member_calls of the "+
				"configuration",
				name, to.Name)
		case to.Kind == node.KindUpstream && !listed(m.GatherUpstreams, to.Name):
			return fmt.Errorf("calls.%s.to: members may not call upstream %q: list it in mesh.gather_upstreams of the "+
				"configuration", name, to.Name)
		}
	}
	return nil
}

// gatherMistakes says what is wrong in the request's own terms: it has no lines, and isn't a route.
func gatherMistakes(err error) string {
	var mistakes config.Errors
	if !errors.As(err, &mistakes) {
		return err.Error()
	}
	texts := make([]string, 0, len(mistakes))
	for _, m := range mistakes {
		texts = append(texts, strings.NewReplacer("routes[0].gather.", "", "routes[0].", "").Replace(m.Message))
	}
	return strings.Join(texts, "; ")
}
