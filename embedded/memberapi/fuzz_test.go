package memberapi_test

import (
	"context"
	"encoding/json"
	"testing"

	"millrace/embedded/memberapi"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

// Whatever a member sends, the answer is one JSON object.
func FuzzPayload(f *testing.F) {
	for _, payload := range []string{
		`{"key": "a"}`, `{"key": "a", "value": {"b": [1, null]}, "ttl": "5m"}`, `{"key": "a", "base64": "/w=="}`,
		`{"key": "a", "load": "5s"}`, `{"limit": "few", "key": "a", "cost": 2}`, oneCall,
		`{"calls": {"a": {"to": "upstream:api", "path": "/{b.c}", "after": ["b"]}}, "headers": {"A": "b\r\n"}}`,
		`{"mode": "quorum", "quorum": 9, "concurrency": "x", "calls": [], "timeout": 1, "host": "a b"}`, `{`, ``, `null`,
	} {
		f.Add("get", []byte(payload))
		f.Add("set", []byte(payload))
	}
	applied := node.Config{
		Upstreams: map[string]node.Upstream{"api": {}}, Limits: map[string]node.Limit{"few": {}},
		Mesh: node.Mesh{GatherUpstreams: []string{"*"}},
	}
	gather := func(_ context.Context, r *node.Route) (*mesh.Response, error) {
		if r.Gather == nil || len(r.Gather.Calls) == 0 {
			panic("a gather without calls")
		}
		return &mesh.Response{Status: 200}, nil
	}
	s := memberapi.New(memberapi.Config{
		Values: &store{kept: map[string][]byte{}}, Limits: noLimits{}, Gather: gatherer(gather),
		Applied: func() *node.Config { return &applied }, Log: nodetest.Discard(),
	})
	f.Fuzz(func(t *testing.T, op string, payload []byte) {
		for _, subject := range []string{"api.cache.*", "api.limit.*", "api.gather"} {
			text, err := json.Marshal(s.Answer(t.Context(), subject, op, payload))
			if err != nil || len(text) < 2 || text[0] != '{' {
				t.Errorf("%s: %s answers %s, %v", subject, payload, text, err)
			}
		}
	})
}
