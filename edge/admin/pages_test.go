package admin_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"millrace/edge/admin"
	"millrace/mesh"
)

// echoNode is a node that answers with its arguments.
type echoNode struct{ fakeNode }

func (echoNode) Explain(method, target string, header mesh.Header) (e admin.Explanation) {
	e.Path = fmt.Sprintf("%s %s %s", method, target, header.Get("X-A"))
	return e
}

func (echoNode) Purge(_ context.Context, p admin.Purge) (admin.Purged, error) {
	switch p.Tag {
	case "none":
		return admin.Purged{}, fmt.Errorf("%w: of a test", admin.ErrPurge)
	case "away":
		return admin.Purged{}, errors.New("the store is away")
	}
	return admin.Purged{Sequence: 7}, nil
}

func (echoNode) LimitUsage(_ context.Context, name, key string) ([]admin.LimitUsage, error) {
	if name == "none" {
		return nil, admin.ErrNoLimit
	}
	return []admin.LimitUsage{{Limit: name, Key: key}}, nil
}

func (echoNode) ResetLimit(_ context.Context, name, _ string) ([]string, error) {
	if name == "away" {
		return nil, errors.New("the store is away")
	}
	return []string{name}, nil
}

func (echoNode) Reload(context.Context) (admin.Reloaded, error) {
	return admin.Reloaded{}, errors.New("a mistake\nand another")
}

// Each page answers from its own part of the node, with the status and the text that commands rely on.
func TestEachPageAnswersFromItsPart(t *testing.T) {
	var o echoNode
	s := serve(t, admin.Node{Status: o, Routes: o, Metrics: o, Purges: o, Limits: o, Reload: o, Tail: o, Sites: o}, "",
		nil)
	for _, c := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/healthz", "", 200, `"status": "ok"`},
		{"GET", "/readyz", "", 200, `"ready": true`},
		{"GET", "/v1/status", "", 200, `"node": "n1"`},
		{"GET", "/v1/status?services=true", "", 200, `"services": {`},
		{"GET", "/v1/routes", "", 200, "null"},
		{"GET", "/v1/explain", "", 400, "name the request"},
		{"GET", "/v1/explain?url=/p&header=X-A:%20b", "", 200, `"GET /p b"`},
		{"GET", "/v1/explain?url=/p&method=PUT", "", 200, `"PUT /p "`},
		{"POST", "/v1/purge", `{"tag": "a"}`, 200, `"sequence": 7`},
		{"POST", "/v1/purge", `{"tag": "a", "all": true}`, 400, "name exactly one of"},
		{"POST", "/v1/purge", `{"tags": "a"}`, 400, "the purge isn't valid JSON"},
		{"POST", "/v1/purge", `{"tag": "a", "wait": "some"}`, 400, `wait is \"all\"`},
		{"POST", "/v1/purge", `{"tag": "none"}`, 400, "nothing was purged: of a test"},
		{"POST", "/v1/purge", `{"tag": "away"}`, 503, "the store is away"},
		{"GET", "/v1/limits", "", 400, "name the key"},
		{"GET", "/v1/limits/none/k", "", 404, "no limit has the name"},
		{"GET", "/v1/limits/few/a/b", "", 200, `"key": "a/b"`},
		{"GET", "/v1/limits?key=k", "", 200, `"limit": ""`},
		{"DELETE", "/v1/limits/few/k", "", 200, `"few"`},
		{"DELETE", "/v1/limits/away/k", "", 503, "the store is away"},
		{"POST", "/v1/reload", "", 422, `a mistake\nand another`},
		{"GET", "/metrics", "", 200, "millrace_ready 1"},
		{"GET", "/v1/purge", "", 405, ""},
	} {
		req, err := http.NewRequest(c.method, "http://"+s.Addr()+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != c.status || !strings.Contains(string(got), c.want) {
			t.Errorf("%s %s %s: %d %s, %v; want %d and %s", c.method, c.path, c.body, resp.StatusCode, got, err,
				c.status, c.want)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}
