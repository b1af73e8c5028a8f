package embedded_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"millrace/embedded/embeddedtest"
	"millrace/node/nodetest"
)

// gatherAnswer is an answer of api.gather.
type gatherAnswer struct {
	Status  int             `json:"status"`
	Body    json.RawMessage `json:"body"`
	Partial []string        `json:"partial"`
	Timing  string          `json:"timing"`
	Error   string          `json:"error"`
	Code    string          `json:"code"`
}

// A node makes several calls at once for a member. They have the limits and caches of a route's calls, and mistakes are
// reported.
func TestGatherAPI(t *testing.T) {
	var got atomic.Int64
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got.Add(1)
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/bad" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if r.URL.Path == "/events" {
			w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			return
		}
		fmt.Fprintf(w, `{"path":%q,"host":%q,"who":%q}`, r.URL, r.Host, r.Header.Get("X-Who"))
	}))
	defer app.Close()
	opts, _ := settings(t, edgeYAML+embeddedtest.YAML(t, `
		limits:
		  few: 3/h
		upstreams:
		  api:
		    targets: [$APP]
		    retry:
		      tries: 1
		    eject:
		      failures: 0
		      rate: 0
		  other:
		    targets: ["http://127.0.0.1:1"]
		`, "APP", app.URL))
	opts.Config.Mesh.GatherUpstreams = []string{"api"}
	n := open(t, opts)
	member := newTaker(t, n)
	ask := func(payload string) (out gatherAnswer) {
		t.Helper()
		msg, err := member.Request("api.gather", []byte(payload), 10*time.Second)
		if err == nil {
			err = json.Unmarshal(msg.Data, &out)
		}
		if err != nil {
			t.Fatalf("%s: %v", payload, err)
		}
		return out
	}
	out := ask(`{"calls": {"a": {"to": "upstream:api", "path": "/a"}, "b": {"to": "upstream:api", "path": "/b/{a.who}", "after": ["a"]}, "c": {"to": "upstream:api", "path": "/bad"}},
		"host": "shop.example", "headers": {"X-Who": "ada"}, "timeout": "5s"}`)
	want := `{"a":{"status":200,"body":{"path":"/a","host":"shop.example","who":"ada"}},"b":{"status":200,"body":{"path":"/b/ada","host":"shop.example","who":"ada"}},"c":{"status":503,"body":null}}`
	if out.Status != 200 || string(out.Body) != want || !slices.Equal(out.Partial, []string{"c"}) ||
		!strings.Contains(out.Timing, "b;dur=") {
		t.Errorf("got %+v with body %s\nwant %s", out, out.Body, want)
	}
	out = ask(`{"mode": "all", "calls": {"a": {"to": "upstream:api", "path": "/bad", "fallback": {"x": [1, null]}}, "b": {"to": "upstream:api", "path": "/sent", "method": "POST", "body": {"y": 1}}}}`)
	if want := `{"a":{"x":[1,null]},"b":{"path":"/sent","host":"localhost","who":""}}`; string(out.Body) != want {
		t.Errorf("with a fallback and a body: %+v with body %s", out, out.Body)
	}
	if out = ask(`{"calls": {"a": {"to": "upstream:api", "path": "/events"}}}`); !strings.Contains(string(out.Body),
		"event stream, which never ends") {
		t.Errorf("a call that streams events: %+v with body %s", out, out.Body)
	}
	if out = ask(`{"mode": "all", "calls": {"a": {"to": "upstream:api", "path": "/bad"}}}`); out.Code != "upstream_failed" {
		t.Errorf("a call that fails: %+v", out)
	}
	cached := func() int64 {
		t.Helper()
		before := got.Load()
		if out = ask(`{"mode": "all", "calls": {"a": {"to": "upstream:api", "path": "/kept", "cache": "1h"}}}`); out.Status != 200 || !strings.Contains(string(out.Body), "/kept") {
			t.Fatalf("a call that is cached: %+v", out)
		}
		return got.Load() - before
	}
	if cached() != 1 {
		t.Error("the first call didn't reach the upstream once")
	}
	nodetest.Eventually(t, "the cache answers", func() bool { return cached() == 0 })
	refused := 0
	for range 5 {
		out = ask(`{"calls": {"a": {"to": "upstream:api", "path": "/x", "limit": "few"}}}`)
		if strings.Contains(string(out.Body), `"status":429`) {
			refused++
		}
	}
	if refused != 2 {
		t.Errorf("of five calls with a limit of three %d were refused: %s", refused, out.Body)
	}
	for payload, mistake := range map[string]string{
		`{}`:             "calls",
		`{"calls": {}}`:  "0 calls",
		`{"calls": []}`:  "a mapping",
		`not json`:       "one JSON object",
		`{"surprise":1}`: "unknown field",
		`{"calls": {"a": {"to": "upstream:apo", "path": "/"}}}`:                             `did you mean "api"?`,
		`{"calls": {"a": {"to": "upstream:api", "path": "/{b.c}"}}}`:                        "name it in after",
		`{"calls": {"a": {"to": "upstream:api", "path": "/", "after": ["a"]}}}`:             "waits for itself",
		`{"calls": {"a": {"to": "upstream:api", "path": "/", "limit": "1/s"}}}`:             "by name",
		`{"calls": {"a": {"to": "upstream:api", "path": "/"}}, "headers": {"A": "b\r\nc"}}`: "control character",
		`{"calls": {"a": {"to": "upstream:api", "path": "/"}}, "host": "a b"}`:              "host is malformed",
		`{"calls": {"a": {"to": "upstream:api", "path": "/", "fallback": "${HOME}"}}}`:      "HOME",
		`{"calls": {"a": {"to": "upstream:other", "path": "/"}}}`:                           "mesh.gather_upstreams",
		`{"calls": {"a": {"to": "upstream:api", "path": "/"}}, "headers": {"": "b"}}`:       "malformed",
		`{"calls": {"a": {"to": "upstream:api", "path": "/"}}, "headers": {"a b": "c"}}`:    "malformed",
		`{"calls": {"a": {"to": "nats:_INBOX_other.1", "body": 1}}}`: "calls services and " +
			"upstreams",
	} {
		if out = ask(payload); out.Code != "invalid_request" || !strings.Contains(out.Error, mistake) {
			t.Errorf("%s: %+v, want %q", payload, out, mistake)
		}
	}
}

// The losing calls are canceled, as the upstream sees; the test logs how soon. A settled answer has an error in place
// of a call that doesn't finish in time.
func TestGatherCancelsLosers(t *testing.T) {
	var mu sync.Mutex
	var ended []time.Time
	entered := make(chan struct{}, 100)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/quick":
			<-entered
			<-entered
			fmt.Fprint(w, "won")
		case "/bad":
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			entered <- struct{}{}
			<-r.Context().Done()
			mu.Lock()
			defer mu.Unlock()
			ended = append(ended, time.Now())
		}
	}))
	defer app.Close()
	route := func(mode string) string {
		return embeddedtest.YAML(t, `
			  - path: /$MODE
			    timeout: 300ms
			    gather:
			      mode: $MODE
			      calls:
			        slow1:
			          to: upstream:api
			          path: /slow
			        slow2:
			          to: upstream:api
			          path: /slow
			        quick:
			          to: upstream:api
			          path: /quick
			`, "MODE", mode)
	}
	opts, _ := settings(t, edgeYAML+embeddedtest.YAML(t, `
		upstreams:
		  api:
		    targets: [$APP]
		routes:
		`, "APP", app.URL)+route("race")+route("any")+route("settled"))
	n := open(t, opts)
	var took []time.Duration
	for _, mode := range []string{"race", "any"} {
		for range 20 {
			mu.Lock()
			ended = nil
			mu.Unlock()
			status, body := get(t, n.EdgeURL()+"/"+mode)
			answered := time.Now()
			if status != 200 || body != "won" {
				t.Fatalf("%s: %d %s", mode, status, body)
			}
			nodetest.Eventually(t, "both losers have ended", func() bool {
				mu.Lock()
				defer mu.Unlock()
				return len(ended) == 2
			})
			for _, at := range ended {
				took = append(took, at.Sub(answered))
			}
		}
	}
	slices.Sort(took)
	t.Logf("losers ended %s after the answer at the median, %s at most", took[len(took)/2], took[len(took)-1])
	if took[len(took)/2] > 5*time.Second {
		t.Errorf("losers ended %s after the answer", took[len(took)/2])
	}
	status, body := get(t, n.EdgeURL()+"/settled")
	if status != 200 || !strings.Contains(body, `"quick":{"status":200,"body":"won"}`) ||
		strings.Count(body, `"status":504`) != 2 {
		t.Errorf("settled: %d %s", status, body)
	}
}
