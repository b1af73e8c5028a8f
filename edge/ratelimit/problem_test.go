package ratelimit_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"millrace/edge/edgetest"
	"millrace/node"
	"millrace/node/nodetest"
)

// A refusal is a problem of draft-ietf-httpapi-ratelimit-headers (RFC 9457) that nobody stores.
func TestRefusalIsAProblemThatNobodyStores(t *testing.T) {
	r := edgetest.Start(
		t,
		edgetest.Limited(edgetest.LimitedRoute("x", edgetest.Per("5/1h"), edgetest.Per("1/1h", func(l *node.Limit) {
			l.Name = "narrow_1"
		})), edgetest.LimitedRoute("flight", edgetest.InFlight(1))),
	)
	r.Do(t, "GET", "/x", "")
	for _, accept := range []string{"*/*", "text/html", "application/json"} {
		resp, body := r.Do(t, "GET", "/x/secret-path?secret-query", "", "Accept", accept, "X-Request-Id", "id-7")
		var p struct {
			edgetest.Problem
			Violated []string `json:"violated-policies"`
		}
		if err := json.Unmarshal([]byte(body), &p); err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		if resp.StatusCode != 429 || p.Status != 429 ||
			p.Type != "https://iana.org/assignments/http-problem-types#quota-exceeded" || p.Code != "rate_limited" ||
			p.Title == "" || p.Detail == "" || !slices.Equal(p.Violated, []string{"narrow_1"}) ||
			p.RequestID != "id-7" || resp.Header.Get("X-Request-Id") != "id-7" {
			t.Errorf("got %d %s", resp.StatusCode, body)
		}
		if h := resp.Header; h.Get("Content-Type") != "application/problem+json" ||
			h.Get("Cache-Control") != "no-store" || len(h.Values("Date")) != 1 || len(h.Values("Retry-After")) != 1 {
			t.Errorf("header %v", resp.Header)
		}
		if strings.Contains(body, "secret") || !strings.HasSuffix(body, "}\n") {
			t.Errorf("the problem is %q", body)
		}
	}
}

// Who listens to event.limit.> learns of each refusal, and nothing is sent as long as nobody does.
func TestEventsTellRefusalsToWhoListens(t *testing.T) {
	r := edgetest.Start(t, edgetest.Config{
		Limits: &edgetest.LimitsConfig{Apart: true},
		Routes: []node.Route{
			edgetest.LimitedRoute("x", edgetest.Per("1/1h", func(l *node.Limit) { l.Name = "narrow" })),
		},
	})
	r.Do(t, "GET", "/x", "")
	before := r.Conn.NATS().Stats().OutMsgs
	for range 100 {
		r.Do(t, "GET", "/x", "")
	}
	if sent := r.Conn.NATS().Stats().OutMsgs - before; sent > 10 {
		t.Errorf("100 refusals that nobody listens to sent %d messages", sent)
	}
	events := make(chan *nats.Msg, 100)
	if _, err := r.Conn.NATS().ChanSubscribe("event.limit.>", events); err != nil {
		t.Fatal(err)
	}
	nodetest.Eventually(t, "an event comes", func() bool {
		r.Do(t, "GET", "/x", "")
		return len(events) > 0
	})
	for range 20 {
		r.Do(t, "PUT", "/x/a%22%7Bb?secret", "", "X-Forwarded-For", "192.0.2.1") // the first passes
	}
	type event struct {
		Time                                     time.Time
		Node, Limit, Route, Client, Method, Path string
		Shadow                                   bool
		ID                                       string `json:"request_id"`
	}
	refusals, ids := 0, map[string]bool{}
	nodetest.Eventually(t, "all of them come", func() bool {
		select {
		case m := <-events:
			var e event
			if err := json.Unmarshal(m.Data, &e); err != nil || m.Subject != "event.limit.narrow" || ids[e.ID] {
				t.Errorf("%s: %s, %v", m.Subject, m.Data, err)
			}
			ids[e.ID] = true
			if e.Client == "192.0.2.1" {
				refusals++
			}
			want := event{
				Time: e.Time, Node: "n1", Limit: "narrow", Route: "x", Client: "192.0.2.1", Method: "PUT",
				Path: "/x/a%22%7Bb", ID: e.ID,
			}
			if e.Client == "192.0.2.1" && (e != want || time.Since(e.Time).Abs() > time.Minute || len(e.ID) != 32 ||
				strings.Contains(string(m.Data), "secret")) {
				t.Errorf("got %s", m.Data)
			}
		default:
		}
		return refusals == 19
	})
	if len(events) > 0 {
		t.Errorf("%d events too many", len(events))
	}
}

// The counts of a limit are those of its requests, whatever other limits said.
func TestStatsCountTheRequestsOfALimit(t *testing.T) {
	r := edgetest.Start(t, edgetest.Limited(edgetest.LimitedRoute("x", edgetest.Per("10/1h"), edgetest.Per("4/1h")),
		edgetest.LimitedRoute("z", edgetest.Per("0/1h"))))
	if n := r.Passes(t, 9, "/x"); n != 4 {
		t.Errorf("%d passed", n)
	}
	r.Passes(t, 3, "/z")
	if s := r.LimitStats("x"); s.Rule != "x" || s.Allowed != 9 || s.Denied != 0 || s.Away != 0 || s.Shadowed != 0 ||
		s.Queued != 0 {
		t.Errorf("the first counted %+v", s)
	}
	if s := r.LimitStats("x-2"); s.Rule != "x-2" || s.Allowed != 4 || s.Denied != 5 {
		t.Errorf("the second counted %+v", s)
	}
	if s := r.LimitStats("z"); s.Denied != 3 || s.Allowed != 0 {
		t.Errorf("the one of 0 counted %+v", s)
	}
	classes := 0
	for _, s := range r.Stats() {
		if s.Route == "x" {
			classes = int(s.Classes[4])
		}
	}
	if classes != 5 {
		t.Errorf("the route counted %d refusals, want 5", classes)
	}
	e := r.Explain(http.MethodGet, "/x", nil)
	if len(e.Limits) != 2 || e.Limits[0].Name != "x" || e.Limits[0].Text != "10 per 1h" || e.Limits[0].Key != "ip" {
		t.Errorf("explained %+v", e.Limits)
	}
	if s := r.LimitStats("x"); s.Allowed != 9 {
		t.Error("an explanation counts")
	}
}
