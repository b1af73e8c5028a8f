package memberapi_test

import (
	"strings"
	"testing"
	"time"

	"millrace/node"
)

// Values are JSON or bytes, and are returned as they were set.
func TestValues(t *testing.T) {
	r := start(t, node.Mesh{}, nil)
	long := strings.Repeat("x", 200)
	for _, c := range []struct{ op, payload, want string }{
		{"get", `{"key": "a"}`, `{"found":false}`},
		{"set", `{"key": "a", "value": {"price": 9.90}, "ttl": "5m"}`, `{"ok":true}`},
		{"get", `{"key": "a"}`, `{"found":true,"value":{"price":9.90}}`},
		{"set", `{"key": "a", "base64": "/w=="}`, `{"ok":true}`},
		{"get", `{"key": "a"}`, `{"found":true,"base64":"/w=="}`},
		{"delete", `{"key": "a"}`, `{"ok":true}`},
		{"get", `{"key": "a", "load": "5s"}`, `{"found":false,"load":true}`},
		{"set", `{"key": "a", "value": "` + long + `"}`, `"code":"body_too_large"`},
		{"set", `{"key": "a", "value": 1, "base64": ""}`, `"code":"invalid_request"`},
		{"set", `{"key": "a"}`, `"code":"invalid_request"`},
		{"set", `{"key": "a", "base64": "?"}`, `"code":"invalid_request"`},
		{"set", `{"key": "a", "size": 1}`, `"code":"invalid_request"`},
		{"get", `a`, `"code":"invalid_request"`},
		{"list", `{"key": "a"}`, `"code":"not_found"`},
	} {
		if got := r.ask(t, "api.cache."+c.op, c.payload); !strings.Contains(got, c.want) {
			t.Errorf("%s %s: got %s, want %s", c.op, c.payload, got, c.want)
		}
	}
	lease := func() time.Duration { return time.Duration(r.values.lease.Load()) }
	if ttl := time.Duration(r.values.ttl.Load()); lease() != 5*time.Second || ttl != 0 {
		t.Errorf("the load may take %s, and the value is kept for %s", lease(), ttl)
	}
	r.ask(t, "api.cache.set", `{"key": "b", "value": 1, "ttl": "5m"}`)
	r.ask(t, "api.cache.get", `{"key": "b", "load": "1h"}`)
	if ttl := time.Duration(r.values.ttl.Load()); lease() != time.Minute || ttl != 5*time.Minute {
		t.Errorf("a load of an hour may take %s, and the value is kept for %s", lease(), ttl)
	}
}
