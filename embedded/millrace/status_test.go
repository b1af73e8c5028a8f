package main

import (
	"regexp"
	"strings"
	"testing"

	"millrace/edge/admin"
	"millrace/mesh/upstream"
	"millrace/node"
)

// Times of any size are readable.
func TestTimesOfRoutes(t *testing.T) {
	for ms, want := range map[float64]string{
		0: "0 ms", 0.01: "0.01 ms", 0.25: "0.25 ms", 1.234: "1.23 ms", 12.5: "12.5 ms", 250: "250 ms", 999.4: "999 ms",
		999.6: "1.0 s", 6060: "6.1 s", 9750: "9.8 s", 30_000: "30.0 s", 600_000: "600 s", 1e7: "10000 s",
	} {
		if got := inMS(&ms); got != want {
			t.Errorf("%v ms is written as %q, want %q", ms, got, want)
		}
	}
	if inMS(nil) != "-" {
		t.Error("an unknown time isn't a dash")
	}
}

// A route is shown with its methods, host and path, since generated names say little.
func TestRoutesAreShownWithTheirPaths(t *testing.T) {
	var out strings.Builder
	ms := 6060.0
	err := aboutRoutes(&out, []admin.RouteRates{
		{
			Route: "a_b-1749i", Path: "/a b", Host: "shop.test", Methods: []node.Method{"GET", "POST"}, Requests: 3,
			P50: &ms, P99: &ms,
		},
		{Route: "gone", Requests: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`(?m)^route +takes +requests/s +5xx `, `(?m)^a_b-1749i +GET,POST shop\.test/a b +0\.0 +.* 6\.1 s +6\.1 s +3$`,
		`(?m)^gone +- +0\.0 `,
	} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("there is no %s in:\n%s", want, out.String())
		}
	}
}

// The mean latency of a target has a label, and isn't shown before there is one.
func TestTargetsTime(t *testing.T) {
	if got := aboutTarget(upstream.TargetStatus{
		URL: "http://h", State: "up", Requests: 5,
		Mean: 328,
	}); !strings.HasSuffix(got, ", mean 328µs") {
		t.Errorf("got %q", got)
	}
	if got := aboutTarget(upstream.TargetStatus{URL: "http://h", State: "up"}); !strings.HasSuffix(got, "0 ejections") {
		t.Errorf("got %q", got)
	}
}
