package edge_test

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"millrace/mesh"
	"millrace/node"
)

// rateFields are those of all drafts, and of the time before them.
var rateFields = []string{
	"RateLimit", "RateLimit-Policy", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "X-RateLimit-Limit",
	"X-RateLimit-Remaining", "X-RateLimit-Reset", "Retry-After",
}

// told gives what a response tells of limits: one value each.
func told(tb testing.TB, h http.Header) map[string]string {
	tb.Helper()
	out := map[string]string{}
	for _, name := range rateFields {
		lines := h.Values(name)
		if len(lines) > 1 {
			tb.Errorf("%s stands there %d times: %q", name, len(lines), lines)
		}
		if len(lines) > 0 {
			out[name] = lines[0]
		}
	}
	return out
}

// number reads a field that is a whole number.
func number(tb testing.TB, h http.Header, name string) int64 {
	tb.Helper()
	n, err := strconv.ParseInt(h.Get(name), 10, 64)
	if err != nil || n < 0 {
		tb.Errorf("%s is %q", name, h.Get(name))
	}
	return n
}

// Each form of the fields has those of express-rate-limit, counts down by one, and adds Retry-After to refusals alone.
func TestLimitForms(t *testing.T) {
	hour := func(format string) func(left, reset string) string {
		return func(left, reset string) string {
			return strings.NewReplacer("LEFT", left, "RESET", reset).Replace(format)
		}
	}
	forms := map[node.HeaderForm]map[string]func(left, reset string) string{
		node.HeaderDraft8: {"RateLimit-Policy": nil, "RateLimit": hour(`"draft-8";r=LEFT;t=RESET`)},
		node.HeaderDraft7: {
			"RateLimit-Policy": hour("3;w=3600"),
			"RateLimit":        hour("limit=3, remaining=LEFT, reset=RESET"),
		},
		node.HeaderDraft6: {
			"RateLimit-Policy": hour("3;w=3600"), "RateLimit-Limit": hour("3"), "RateLimit-Remaining": hour("LEFT"),
			"RateLimit-Reset": hour("RESET"),
		},
		node.HeaderLegacy: {
			"X-RateLimit-Limit": hour("3"), "X-RateLimit-Remaining": hour("LEFT"),
			"X-RateLimit-Reset": nil,
		},
		node.HeaderNone: {},
	}
	var routes []node.Route
	for form := range forms {
		routes = append(routes, limitedRoute(string(form), per("3/1h", headers(form))))
	}
	r := startLimits(t, nil, routes...)
	for form, want := range forms {
		t.Run(string(form), func(t *testing.T) {
			before := time.Now()
			for i := range 5 {
				resp, _ := r.do(t, "GET", "/"+string(form), "")
				got := told(t, resp.Header)
				refused := i >= 3
				if (resp.StatusCode == http.StatusTooManyRequests) != refused || (got["Retry-After"] != "") != refused {
					t.Fatalf("request %d: %d %v", i+1, resp.StatusCode, got)
				}
				retry := got["Retry-After"]
				delete(got, "Retry-After")
				if names := slices.Sorted(maps.Keys(got)); !slices.Equal(names, slices.Sorted(maps.Keys(want))) {
					t.Errorf("request %d: fields %q", i+1, names)
				}
				reset := resetOf(t, form, resp.Header, before)
				if n, _ := strconv.ParseInt(retry, 10, 64); refused && form != node.HeaderNone && n < reset {
					t.Errorf("request %d: Retry-After %s is before the reset in %d s", i+1, retry, reset)
				}
				for name, text := range want {
					if text != nil && got[name] != text(strconv.Itoa(max(2-i, 0)), strconv.FormatInt(reset, 10)) {
						t.Errorf("request %d: %s is %q", i+1, name, got[name])
					}
				}
			}
		})
	}
}

// resetOf gives the seconds to the reset and checks that they are those of a window of an hour that began after before,
// rounded up.
func resetOf(tb testing.TB, form node.HeaderForm, h http.Header, before time.Time) (seconds int64) {
	tb.Helper()
	switch form {
	case node.HeaderDraft8:
		seconds = only(tb, h).t
	case node.HeaderDraft7:
		_, text, _ := strings.Cut(h.Get("RateLimit"), "reset=")
		seconds, _ = strconv.ParseInt(text, 10, 64)
	case node.HeaderDraft6:
		seconds = number(tb, h, "RateLimit-Reset")
	case node.HeaderLegacy:
		at := time.Unix(number(tb, h, "X-RateLimit-Reset"), 0)
		if at.Before(before.Add(far)) || at.After(time.Now().Add(far+time.Second)) {
			tb.Errorf("the window that began after %s is over at %s", before, at)
		}
		return int64(time.Until(at).Seconds())
	case node.HeaderNone:
		return 0
	}
	if least := int64((far - time.Since(before)).Seconds()); seconds < least || seconds > int64(far.Seconds()) {
		tb.Errorf("reset is %d s, want %d to 3600", seconds, least)
	}
	return seconds
}

// The newest form, byte for byte and as a client would parse it. The partition key is that of the client, and no plain
// text.
func TestLimitNewestForm(t *testing.T) {
	bucket := per("10/2s", func(l *node.Limit) { l.Algorithm, l.Burst = node.AlgorithmBucket, 30 })
	day := per("1000/day", func(l *node.Limit) { l.Name = "daily" })
	short := per("7/1500ms")
	r := startLimits(t, func(s *limitSetup) {
		s.named = map[string]node.Limit{"shared-1": per("5/2h", by("header:X-Api-Key"))}
	},
		limitedRoute("bucket", bucket), limitedRoute("short", short), limitedRoute("flight", inFlight(4)),
		limitedRoute("many", per("shared-1"), day, per("100/1m")))
	for _, c := range []struct {
		path string
		want []quota
	}{
		{"/bucket", []quota{{name: "bucket", q: 30, w: 2, r: 29, t: 1, hasTime: true}}},
		{"/short", []quota{{name: "short", q: 7, w: 2, r: 6, t: 2, hasTime: true}}},
		{"/flight", []quota{{name: "flight", q: 4, unit: "concurrent-requests", r: 3}}},
		{"/many", []quota{
			{name: "shared-1", q: 5, w: 7200, r: 4, t: 7200, hasTime: true},
			{name: "daily", q: 1000, w: 86400, r: 999, hasTime: true},
			{name: "many-3", q: 100, w: 60, r: 99, t: 60, hasTime: true},
		}},
	} {
		resp, _ := r.do(t, "GET", c.path, "", "X-Api-Key", "foo")
		got := quotas(t, resp.Header)
		for i := range got {
			if key := r.limits.Rule(got[i].name).Key([]byte("foo")).String()[:12]; len(got[i].key) != 12 ||
				(got[i].key == key) != (got[i].name == "shared-1") {
				t.Errorf("%s: the partition key is %q", c.path, got[i].key)
			}
			got[i].key = ""
			if i < len(c.want) && c.want[i].name == "daily" {
				got[i].t = 0 // whatever the time of day is
			}
			if i < len(c.want) && c.want[i].t-got[i].t <= int64(time.Minute.Seconds()) && c.want[i].t >= got[i].t {
				got[i].t = c.want[i].t // a slow machine
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %+v from %q and %q", c.path, got, resp.Header["Ratelimit-Policy"],
				resp.Header["Ratelimit"])
		}
	}
	resp, _ := r.do(t, "GET", "/short", "")
	if got := resp.Header.Get("RateLimit-Policy"); !strings.HasPrefix(got, `"short";q=7;w=2;pk=:`) ||
		!strings.HasSuffix(got, "=:") && !strings.HasSuffix(got, ":") {
		t.Errorf("RateLimit-Policy is %q, not in the canonical form of RFC 9651", got)
	}
	if got := resp.Header.Get("RateLimit"); !strings.HasPrefix(got, `"short";r=`) {
		t.Errorf("RateLimit is %q", got)
	}
}

// Of several limits in an older form that with the least left is told; the newest form and X-RateLimit may stand side
// by side.
func TestLimitFormsTogether(t *testing.T) {
	r := startLimits(t, nil,
		limitedRoute("least", per("5/1h", headers(node.HeaderDraft7)), per("2/1m", headers(node.HeaderDraft7))),
		limitedRoute("both", per("5/1h"), per("9/1m", headers(node.HeaderLegacy)),
			per("3/1m", headers(node.HeaderNone)), per("1/1m", func(l *node.Limit) {
				l.Shadow = true
			})),
		limitedRoute("clash", per("5/1h"), per("3/1m", headers(node.HeaderDraft6)),
			per("2/1m", headers(node.HeaderDraft7))),
	)
	resp, _ := r.do(t, "GET", "/least", "")
	if got := told(t, resp.Header); got["RateLimit-Policy"] != "2;w=60" ||
		!strings.HasPrefix(got["RateLimit"], "limit=2, remaining=1, ") {
		t.Errorf("the least: %v", got)
	}
	resp, _ = r.do(t, "GET", "/both", "")
	got := told(t, resp.Header)
	if q := only(t, resp.Header); q.name != "both" || q.r != 4 || got["X-RateLimit-Limit"] != "9" ||
		got["X-RateLimit-Remaining"] != "8" || len(got) != 5 {
		t.Errorf("both: %v", got)
	}
	resp, _ = r.do(t, "GET", "/clash", "")
	if q := only(t, resp.Header); q.name != "clash" || q.q != 5 || q.r != 4 {
		t.Errorf("one field can't have two forms: %v", told(t, resp.Header))
	}
}

// A refusal tells of the limit that refuses, and of those before it as they are once they have been given back.
func TestLimitFieldsOfRefusal(t *testing.T) {
	r := startLimits(t, nil,
		limitedRoute("new", per("9/1h"), per("2/2m")),
		limitedRoute("old", per("3/1h", headers(node.HeaderDraft7)), per("2/2m", headers(node.HeaderDraft7))),
	)
	for range 2 {
		r.do(t, "GET", "/new", "")
		r.do(t, "GET", "/old", "")
	}
	for range 3 {
		resp, _ := r.do(t, "GET", "/new", "")
		if got := quotas(t, resp.Header); len(got) != 2 || got[0].r != 7 || got[1].r != 0 ||
			number(t, resp.Header, "Retry-After") < got[1].t {
			t.Errorf("got %+v with Retry-After %s", got, resp.Header.Get("Retry-After"))
		}
		resp, _ = r.do(t, "GET", "/old", "")
		if got := told(t, resp.Header); got["RateLimit-Policy"] != "2;w=120" ||
			!strings.HasPrefix(got["RateLimit"], "limit=2, remaining=0, ") {
			t.Errorf("got %v", got)
		}
	}
}

// A limit on requests in flight has no window, in any form. Clients whose windows all end at one moment are told to
// come back at different ones, none of them too early.
func TestLimitFieldsWithoutOwnWindow(t *testing.T) {
	r := startLimits(t, nil,
		limitedRoute("draft-8", inFlight(4)), limitedRoute("draft-7", inFlight(4, headers(node.HeaderDraft7))),
		limitedRoute("draft-6", inFlight(4, headers(node.HeaderDraft6))),
		limitedRoute("legacy", inFlight(4, headers(node.HeaderLegacy))),
		limitedRoute("clock", per("0/1h", func(l *node.Limit) {
			l.Align = node.AlignClock
		})), limitedRoute("day", per("0/day")),
	)
	for path, want := range map[string]map[string]string{
		"draft-7": {"RateLimit-Policy": "4", "RateLimit": "limit=4, remaining=3, reset=1"},
		"draft-6": {
			"RateLimit-Policy": "4", "RateLimit-Limit": "4", "RateLimit-Remaining": "3",
			"RateLimit-Reset": "1",
		},
		"legacy": {"X-RateLimit-Limit": "4", "X-RateLimit-Remaining": "3"},
	} {
		resp, _ := r.do(t, "GET", "/"+path, "")
		got := told(t, resp.Header)
		delete(got, "X-RateLimit-Reset")
		if !maps.Equal(got, want) {
			t.Errorf("%s: got %v", path, got)
		}
	}
	resp, _ := r.do(t, "GET", "/draft-8", "")
	if q := only(t, resp.Header); q.unit != "concurrent-requests" || q.w != 0 || q.hasTime || q.r != 3 {
		t.Errorf("got %+v", q)
	}
	for _, path := range []string{"/clock", "/day"} {
		waits := map[int64]bool{}
		for range 20 {
			resp, _ := r.do(t, "GET", path, "")
			wait := number(t, resp.Header, "Retry-After") - only(t, resp.Header).t
			if wait < 0 || wait > 31 {
				t.Errorf("%s: Retry-After is %d s behind the reset", path, wait)
			}
			waits[wait] = true
		}
		if len(waits) < 3 {
			t.Errorf("%s: all come back at once: %v", path, waits)
		}
	}
}

// What is told holds when the response begins, however long that took.
func TestLimitFieldsOfSlow(t *testing.T) {
	slow := limitedRoute("slow", per("5/10s"))
	slow.To.Name = "slow"
	r := startLimits(t, nil, slow)
	service(t, r.conn, "slow", func(context.Context, *mesh.Request) (*mesh.Response, error) {
		<-time.After(1100 * time.Millisecond)
		return &mesh.Response{Status: 200}, nil
	})
	resp, _ := r.do(t, "GET", "/slow", "")
	if q := only(t, resp.Header); q.r != 4 || q.t > 9 {
		t.Errorf("told %+v more than a second after the window began", q)
	}
}

// An origin that limits too is heard where the form is a list, and overruled where a field has one value.
func TestLimitFieldsOfOrigin(t *testing.T) {
	routes := []node.Route{limitedRoute("draft-8", per("5/1h"))}
	for _, form := range []node.HeaderForm{node.HeaderDraft7, node.HeaderDraft6, node.HeaderLegacy} {
		routes = append(routes, limitedRoute(string(form), per("5/1h", headers(form))))
	}
	for i := range routes {
		routes[i].To.Name = "limiting"
	}
	r := startLimits(t, nil, routes...)
	service(t, r.conn, "limiting", limiting)
	resp, _ := r.do(t, "GET", "/draft-8", "")
	if got := quotas(t, resp.Header); len(got) != 2 || got[0].name != "origin" || got[1].name != "draft-8" ||
		got[1].r != 4 {
		t.Errorf("got %+v", got)
	}
	for form, want := range map[string]map[string]string{
		"draft-7": {"RateLimit-Policy": "5;w=3600"},
		"draft-6": {"RateLimit-Limit": "5", "RateLimit-Remaining": "4"},
		"legacy":  {"X-RateLimit-Limit": "5", "X-RateLimit-Remaining": "4"},
	} {
		resp, _ := r.do(t, "GET", "/"+form, "")
		for name, value := range want {
			if got := resp.Header.Values(name); len(got) != 1 || got[0] != value {
				t.Errorf("%s: %s is %q", form, name, got)
			}
		}
		if at := resp.Header.Values("X-RateLimit-Reset"); len(at) != 1 {
			t.Errorf("%s: X-RateLimit-Reset is %q", form, at)
		}
	}
}

// limiting is an origin that tells of a limit of its own, in the form that the path names.
func limiting(_ context.Context, r *mesh.Request) (*mesh.Response, error) {
	h := fields("RateLimit-Policy", `"origin";q=100;w=60`, "RateLimit", `"origin";r=50;t=30`)
	if r.Target != "/draft-8" {
		h = fields("RateLimit-Policy", "100;w=60", "RateLimit", "limit=100, remaining=50, reset=30")
	}
	for _, prefix := range []string{"RateLimit-", "X-RateLimit-"} {
		h = append(h, fields(prefix+"Limit", "100", prefix+"Remaining", "50", prefix+"Reset", "30")...)
	}
	return &mesh.Response{Status: 200, Header: h}, nil
}
