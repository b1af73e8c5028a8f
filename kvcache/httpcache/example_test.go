package httpcache_test

import (
	"fmt"
	"time"

	"millrace/kvcache/httpcache"
	"millrace/node"
)

// A response is admitted once, and judged for each request that it might answer.
func Example() {
	came := time.Date(2026, time.November, 24, 12, 0, 0, 0, time.UTC)
	rules := httpcache.Rules{Targets: httpcache.DefaultTargets}
	stored, _, reason := rules.Admit(
		&httpcache.Request{Method: "GET"},
		&httpcache.Response{
			Status: 200,
			Header: node.Header{
				{Name: "Cache-Control", Value: "max-age=60, stale-while-revalidate=30"},
				{Name: "Age", Value: "10"},
			},
			Requested: came, Received: came,
		})
	fmt.Printf("against it: %q, fresh for %v\n", reason, stored.Remaining(came))

	names := map[httpcache.Use]string{
		httpcache.UseFresh: "serve", httpcache.UseRefresh: "serve and refresh",
		httpcache.UseValidate: "ask the origin",
	}
	for _, later := range []time.Duration{49 * time.Second, 50 * time.Second, 80 * time.Second} {
		fmt.Printf("after %v: %s\n", later, names[stored.Judge(nil, came.Add(later), false)])
	}
	// Output:
	// against it: "", fresh for 50s
	// after 49s: serve
	// after 50s: serve and refresh
	// after 1m20s: ask the origin
}
