package config_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"millrace/node/config"
)

// manyFiles returns files with the maximal number of routes, in typical variants.
func manyFiles() map[string]string {
	const head = "version: 1\nupstreams: {api: {targets: [http://127.0.0.1:3000]}}\n"
	routes := func(line func(i int) string) string {
		var b strings.Builder
		b.WriteString(head + "routes:\n")
		for i := range 10_000 {
			b.WriteString("  - {" + line(i) + "}\n")
		}
		return b.String()
	}
	var upstreams strings.Builder
	upstreams.WriteString("version: 1\nupstreams:\n")
	for i := range 9_000 {
		fmt.Fprintf(&upstreams, "  u%d: {targets: [http://127.0.0.1:3000]}\n", i)
	}
	return map[string]string{
		"literals": routes(func(i int) string { return fmt.Sprintf("path: /route/%d, to: upstream:api", i) }),
		"hosts": routes(func(i int) string {
			return fmt.Sprintf("host: h%d.example, path: /*, to: upstream:api", i)
		}),
		"methods": routes(func(i int) string {
			return fmt.Sprintf("path: /r/%d, methods: [%s], to: upstream:api", i/2, []string{"GET", "PUT"}[i%2])
		}),
		"headers": routes(func(i int) string {
			return fmt.Sprintf("path: /*, match: {headers: {X-T: t%d}}, to: upstream:api", i)
		}),
		"limits": routes(func(i int) string {
			return fmt.Sprintf("path: /r/%d, to: upstream:api, limit: [20/s, 100/15m]", i)
		}),
		"caches": routes(func(i int) string {
			return fmt.Sprintf("path: /r/%d, to: upstream:api, cache: {ttl: 1h}", i)
		}),
		"mistakes": routes(func(i int) string { return fmt.Sprintf("path: /r/%d, to: api", i) }),
		"unknown":  routes(func(i int) string { return fmt.Sprintf("path: /r/%d, too: upstream:apis", i) }),
		"same":     routes(func(int) string { return "path: /r, to: upstream:api" }),
		"missing":  upstreams.String() + "routes:\n" + strings.Repeat("  - {path: /r, to: 'upstream:v'}\n", 1000),
		"unused":   upstreams.String(),
	}
}

// TestManyRoutes parses the largest files, valid and invalid.
func TestManyRoutes(t *testing.T) {
	files := manyFiles()
	for _, name := range []string{"literals", "limits", "unknown", "missing"} {
		t.Run(name, func(t *testing.T) {
			file := files[name]
			if len(file) > config.MaxFile {
				t.Fatalf("the file has %d bytes", len(file))
			}
			start := time.Now()
			_, _ = config.Parse("f", []byte(file), nil)
			took := time.Since(start)
			t.Logf("took %s", took)
			if took > 30*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
}

// BenchmarkParseMany parses the largest files.
func BenchmarkParseMany(b *testing.B) {
	for name, file := range manyFiles() {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				_, _ = config.Parse("f", []byte(file), nil)
			}
		})
	}
}
