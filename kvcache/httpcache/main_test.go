package httpcache_test

import (
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"millrace/kvcache/httpcache"
	"millrace/node"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The comments of tests name the items of the caching checklist that they cover (see edge/DESIGN.md).

// now is when the responses of the tests arrive, unless a row says otherwise.
var now = time.Date(2026, time.November, 24, 12, 0, 0, 0, time.UTC)

// at returns the date at d after now, as in a field.
func at(d time.Duration) string { return httpcache.FormatDate(now.Add(d)) }

// head parses lines such as "Age: 1".
func head(lines ...string) node.Header {
	var h node.Header
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ":")
		h.Add(name, strings.TrimPrefix(value, " "))
	}
	return h
}

// lines formats fields as head parses them.
func lines(h node.Header) []string {
	out := make([]string, 0, len(h))
	for _, f := range h {
		out = append(out, f.Name+": "+f.Value)
	}
	return out
}

// get admits the response to a plain GET that arrived at once.
func get(rules *httpcache.Rules, status int, fields ...string) (httpcache.Stored, httpcache.Reason) {
	s, _, reason := rules.Admit(&httpcache.Request{Method: "GET"}, response(status, fields...))
	return s, reason
}

func response(status int, fields ...string) *httpcache.Response {
	return &httpcache.Response{Status: status, Header: head(fields...), Requested: now, Received: now}
}

// targeted returns rules with the default targeted fields.
func targeted() *httpcache.Rules { return &httpcache.Rules{Targets: httpcache.DefaultTargets} }

func splitLines(s string) []string { return strings.Split(s, "\n") }
