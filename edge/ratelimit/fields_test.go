package ratelimit_test

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"millrace/edge/edgetest"
	"millrace/mesh"
	"millrace/node"
)

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
func TestFormsTellWhatIsLeft(t *testing.T) {
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
		routes = append(routes, edgetest.LimitedRoute(string(form), edgetest.Per("3/1h", edgetest.HeaderForm(form))))
	}
	r := edgetest.Start(t, edgetest.Limited(routes...))
	for form, want := range forms {
		t.Run(string(form), func(t *testing.T) {
			before := time.Now()
			for i := range 5 {
				resp, _ := r.Do(t, "GET", "/"+string(form), "")
				got := edgetest.LimitFields(t, resp.Header)
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
		seconds = edgetest.OnlyQuota(tb, h).T
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
func TestNewestFormIsWellFormed(t *testing.T) {
	bucket := edgetest.Per("10/2s", func(l *node.Limit) { l.Algorithm, l.Burst = node.AlgorithmBucket, 30 })
	day := edgetest.Per("1000/day", func(l *node.Limit) { l.Name = "daily" })
	short := edgetest.Per("7/1500ms")
	r := edgetest.Start(t, edgetest.Config{
		Limits: &edgetest.LimitsConfig{
			Named: map[string]node.Limit{"shared-1": edgetest.Per("5/2h", edgetest.By("header:X-Api-Key"))},
		},
		Routes: []node.Route{
			edgetest.LimitedRoute("bucket", bucket),
			edgetest.LimitedRoute("short", short),
			edgetest.LimitedRoute("flight", edgetest.InFlight(4)),
			edgetest.LimitedRoute("many", edgetest.Per("shared-1"), day, edgetest.Per("100/1m")),
		},
	})
	for _, c := range []struct {
		path string
		want []edgetest.Quota
	}{
		{"/bucket", []edgetest.Quota{{Name: "bucket", Q: 30, W: 2, R: 29, T: 1, HasT: true}}},
		{"/short", []edgetest.Quota{{Name: "short", Q: 7, W: 2, R: 6, T: 2, HasT: true}}},
		{"/flight", []edgetest.Quota{{Name: "flight", Q: 4, Unit: "concurrent-requests", R: 3}}},
		{"/many", []edgetest.Quota{
			{Name: "shared-1", Q: 5, W: 7200, R: 4, T: 7200, HasT: true},
			{Name: "daily", Q: 1000, W: 86400, R: 999, HasT: true},
			{Name: "many-3", Q: 100, W: 60, R: 99, T: 60, HasT: true},
		}},
	} {
		resp, _ := r.Do(t, "GET", c.path, "", "X-Api-Key", "foo")
		got := edgetest.Quotas(t, resp.Header)
		for i := range got {
			if key := r.Limiter.Rule(got[i].Name).Key([]byte("foo")).String()[:12]; len(got[i].Key) != 12 ||
				(got[i].Key == key) != (got[i].Name == "shared-1") {
				t.Errorf("%s: the partition key is %q", c.path, got[i].Key)
			}
			got[i].Key = ""
			if i < len(c.want) && c.want[i].Name == "daily" {
				got[i].T = 0 // whatever the time of day is
			}
			if i < len(c.want) && c.want[i].T-got[i].T <= int64(time.Minute.Seconds()) && c.want[i].T >= got[i].T {
				got[i].T = c.want[i].T // a slow machine
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %+v from %q and %q", c.path, got, resp.Header["Ratelimit-Policy"],
				resp.Header["Ratelimit"])
		}
	}
	resp, _ := r.Do(t, "GET", "/short", "")
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
func TestOlderFormsTellTheLimitWithTheLeast(t *testing.T) {
	r := edgetest.Start(t, edgetest.Limited(
		edgetest.LimitedRoute("least", edgetest.Per("5/1h", edgetest.HeaderForm(node.HeaderDraft7)),
			edgetest.Per("2/1m", edgetest.HeaderForm(node.HeaderDraft7))),
		edgetest.LimitedRoute(
			"both",
			edgetest.Per("5/1h"),
			edgetest.Per("9/1m", edgetest.HeaderForm(node.HeaderLegacy)),
			edgetest.Per("3/1m", edgetest.HeaderForm(node.HeaderNone)),
			edgetest.Per("1/1m", func(l *node.Limit) {
				l.Shadow = true
			}),
		),
		edgetest.LimitedRoute("clash", edgetest.Per("5/1h"),
			edgetest.Per("3/1m", edgetest.HeaderForm(node.HeaderDraft6)),
			edgetest.Per("2/1m", edgetest.HeaderForm(node.HeaderDraft7))),
	))
	resp, _ := r.Do(t, "GET", "/least", "")
	if got := edgetest.LimitFields(t, resp.Header); got["RateLimit-Policy"] != "2;w=60" ||
		!strings.HasPrefix(got["RateLimit"], "limit=2, remaining=1, ") {
		t.Errorf("the least: %v", got)
	}
	resp, _ = r.Do(t, "GET", "/both", "")
	got := edgetest.LimitFields(t, resp.Header)
	if q := edgetest.OnlyQuota(t, resp.Header); q.Name != "both" || q.R != 4 || got["X-RateLimit-Limit"] != "9" ||
		got["X-RateLimit-Remaining"] != "8" || len(got) != 5 {
		t.Errorf("both: %v", got)
	}
	resp, _ = r.Do(t, "GET", "/clash", "")
	if q := edgetest.OnlyQuota(t, resp.Header); q.Name != "clash" || q.Q != 5 || q.R != 4 {
		t.Errorf("one field can't have two forms: %v", edgetest.LimitFields(t, resp.Header))
	}
}

// A refusal tells of the limit that refuses, and of those before it as they are once they have been given back.
func TestRefusalTellsOfTheLimitThatRefuses(t *testing.T) {
	r := edgetest.Start(t, edgetest.Limited(
		edgetest.LimitedRoute("new", edgetest.Per("9/1h"), edgetest.Per("2/2m")),
		edgetest.LimitedRoute("old", edgetest.Per("3/1h", edgetest.HeaderForm(node.HeaderDraft7)),
			edgetest.Per("2/2m", edgetest.HeaderForm(node.HeaderDraft7))),
	))
	for range 2 {
		r.Do(t, "GET", "/new", "")
		r.Do(t, "GET", "/old", "")
	}
	for range 3 {
		resp, _ := r.Do(t, "GET", "/new", "")
		if got := edgetest.Quotas(t, resp.Header); len(got) != 2 || got[0].R != 7 || got[1].R != 0 ||
			number(t, resp.Header, "Retry-After") < got[1].T {
			t.Errorf("got %+v with Retry-After %s", got, resp.Header.Get("Retry-After"))
		}
		resp, _ = r.Do(t, "GET", "/old", "")
		if got := edgetest.LimitFields(t, resp.Header); got["RateLimit-Policy"] != "2;w=120" ||
			!strings.HasPrefix(got["RateLimit"], "limit=2, remaining=0, ") {
			t.Errorf("got %v", got)
		}
	}
}

// A limit on requests in flight has no window, in any form. Clients whose windows all end at one moment are told to
// come back at different ones, none of them too early.
func TestLimitWithoutAWindowTellsNone(t *testing.T) {
	r := edgetest.Start(t, edgetest.Limited(
		edgetest.LimitedRoute("draft-8", edgetest.InFlight(4)),
		edgetest.LimitedRoute("draft-7", edgetest.InFlight(4, edgetest.HeaderForm(node.HeaderDraft7))),
		edgetest.LimitedRoute("draft-6", edgetest.InFlight(4, edgetest.HeaderForm(node.HeaderDraft6))),
		edgetest.LimitedRoute("legacy", edgetest.InFlight(4, edgetest.HeaderForm(node.HeaderLegacy))),
		edgetest.LimitedRoute("clock", edgetest.Per("0/1h", func(l *node.Limit) {
			l.Align = node.AlignClock
		})),
		edgetest.LimitedRoute("day", edgetest.Per("0/day")),
	))
	for path, want := range map[string]map[string]string{
		"draft-7": {"RateLimit-Policy": "4", "RateLimit": "limit=4, remaining=3, reset=1"},
		"draft-6": {
			"RateLimit-Policy": "4", "RateLimit-Limit": "4", "RateLimit-Remaining": "3",
			"RateLimit-Reset": "1",
		},
		"legacy": {"X-RateLimit-Limit": "4", "X-RateLimit-Remaining": "3"},
	} {
		resp, _ := r.Do(t, "GET", "/"+path, "")
		got := edgetest.LimitFields(t, resp.Header)
		delete(got, "X-RateLimit-Reset")
		if !maps.Equal(got, want) {
			t.Errorf("%s: got %v", path, got)
		}
	}
	resp, _ := r.Do(t, "GET", "/draft-8", "")
	if q := edgetest.OnlyQuota(t, resp.Header); q.Unit != "concurrent-requests" || q.W != 0 || q.HasT || q.R != 3 {
		t.Errorf("got %+v", q)
	}
	for _, path := range []string{"/clock", "/day"} {
		waits := map[int64]bool{}
		for range 20 {
			resp, _ := r.Do(t, "GET", path, "")
			wait := number(t, resp.Header, "Retry-After") - edgetest.OnlyQuota(t, resp.Header).T
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
func TestFieldsHoldWhenTheResponseBegins(t *testing.T) {
	slow := edgetest.LimitedRoute("slow", edgetest.Per("5/10s"))
	slow.To.Name = "slow"
	r := edgetest.Start(t, edgetest.Limited(slow))
	r.Service(t, "slow", func(context.Context, *mesh.Request) (*mesh.Response, error) {
		<-time.After(1100 * time.Millisecond)
		return &mesh.Response{Status: 200}, nil
	})
	resp, _ := r.Do(t, "GET", "/slow", "")
	if q := edgetest.OnlyQuota(t, resp.Header); q.R != 4 || q.T > 9 {
		t.Errorf("told %+v more than a second after the window began", q)
	}
}

// An origin that limits too is heard where the form is a list, and overruled where a field has one value.
func TestLimitOfTheOriginIsToldInListsOnly(t *testing.T) {
	routes := []node.Route{edgetest.LimitedRoute("draft-8", edgetest.Per("5/1h"))}
	for _, form := range []node.HeaderForm{node.HeaderDraft7, node.HeaderDraft6, node.HeaderLegacy} {
		routes = append(routes, edgetest.LimitedRoute(string(form), edgetest.Per("5/1h", edgetest.HeaderForm(form))))
	}
	for i := range routes {
		routes[i].To.Name = "limiting"
	}
	r := edgetest.Start(t, edgetest.Limited(routes...))
	r.Service(t, "limiting", limiting)
	resp, _ := r.Do(t, "GET", "/draft-8", "")
	if got := edgetest.Quotas(t, resp.Header); len(got) != 2 || got[0].Name != "origin" || got[1].Name != "draft-8" ||
		got[1].R != 4 {
		t.Errorf("got %+v", got)
	}
	for form, want := range map[string]map[string]string{
		"draft-7": {"RateLimit-Policy": "5;w=3600"},
		"draft-6": {"RateLimit-Limit": "5", "RateLimit-Remaining": "4"},
		"legacy":  {"X-RateLimit-Limit": "5", "X-RateLimit-Remaining": "4"},
	} {
		resp, _ := r.Do(t, "GET", "/"+form, "")
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
	h := edgetest.Fields("RateLimit-Policy", `"origin";q=100;w=60`, "RateLimit", `"origin";r=50;t=30`)
	if r.Target != "/draft-8" {
		h = edgetest.Fields("RateLimit-Policy", "100;w=60", "RateLimit", "limit=100, remaining=50, reset=30")
	}
	for _, prefix := range []string{"RateLimit-", "X-RateLimit-"} {
		h = append(h, edgetest.Fields(prefix+"Limit", "100", prefix+"Remaining", "50", prefix+"Reset", "30")...)
	}
	return &mesh.Response{Status: 200, Header: h}, nil
}

// far is a window that no test outlives.
const far = time.Hour
