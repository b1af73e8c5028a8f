package main

import (
	"strings"
	"testing"
)

// If its upstream has a single target, the line of a failed request names that target, like the line of an answered
// one.
func TestPrintedFailureNamesTheOnlyTarget(t *testing.T) {
	const head = `{"time":"2026-01-02T03:04:05Z","method":"GET","host":"h","path":"/x","route":"all",`
	for event, want := range map[string]string{
		`"status":502,"target":"upstream:api","error":"upstream_failed"}`: "all → upstream:api " +
			"(localhost:3000)",
		`"status":502,"target":"upstream:api","error":"bad_reply"}`: "all → upstream:api " +
			"(localhost:3000)",
		`"status":504,"target":"upstream:api","error":"timeout"}`: "all → upstream:api " +
			"(localhost:3000)",
		`"status":200,"target":"upstream:api","member":"localhost:3000"}`: "all → upstream:api " +
			"(localhost:3000)",
		`"status":200,"target":"upstream:api","cache":"hit"}`:            "all → upstream:api",
		`"status":413,"target":"upstream:api","error":"body_too_large"}`: "all → upstream:api",
		`"status":503,"target":"service:api","error":"no_member"}`:       "all → service:api",
		`"status":502,"target":"service:api","error":"bad_reply"}`:       "all → service:api",
		`"status":429,"target":"upstream:api",` +
			`"over_limit":"small","client":"1.2.3.4"}`: "all: over limit small, from " +
			"1.2.3.4",
	} {
		var out strings.Builder
		if err := printEvent(&out, []byte(head+event), "localhost:3000"); err != nil ||
			!strings.HasSuffix(out.String(), "  "+want+"\n") {
			t.Errorf("%s is printed as %q, %v", event, out.String(), err)
		}
	}
	var out strings.Builder
	const refused = `{"time":"2026-01-02T03:04:05Z","limit":"small","method":"GET","path":"/x","client":"1.2.3.4",`
	if err := printEvent(&out, []byte(refused+`"route":"all"}`), ""); err != nil || out.Len() > 0 {
		t.Errorf("the refusal of a request that has a line is printed as %q, %v", out.String(), err)
	}
	if err := printEvent(&out, []byte(refused+`"route":"all.one"}`), ""); err != nil ||
		!strings.Contains(out.String(), "over limit small, refused") {
		t.Errorf("the refusal of a call is printed as %q, %v", out.String(), err)
	}
}
