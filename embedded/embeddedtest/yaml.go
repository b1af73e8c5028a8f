package embeddedtest

import (
	"os"
	"strings"
	"testing"
)

// YAML returns a configuration from a block of a test's source. The block starts on the line after the back quote and
// is indented with tabs; YAML removes that indentation. $NAME is replaced by the value that follows NAME in pairs.
// The test fails if a placeholder has no value, or if a value has no placeholder.
func YAML(tb testing.TB, block string, pairs ...string) string {
	tb.Helper()
	values, used, wrong := map[string]string{}, map[string]bool{}, []string(nil)
	for i := 0; i+1 < len(pairs); i += 2 {
		values[pairs[i]] = pairs[i+1]
	}
	text := os.Expand(unindent(block), func(name string) string {
		value, ok := values[name]
		if !ok {
			wrong = append(wrong, "no value for the placeholder $"+name)
		}
		used[name] = true
		return value
	})
	for name := range values {
		if !used[name] {
			wrong = append(wrong, "no placeholder $"+name+" for a value")
		}
	}
	if len(wrong) > 0 {
		tb.Fatalf("configuration: %s", strings.Join(wrong, ", "))
	}
	return text
}

// unindent removes the first line break, the tabs that the first line starts with from every line, and the tabs before
// the closing back quote.
func unindent(block string) string {
	block = strings.TrimPrefix(block, "\n")
	tabs := block[:len(block)-len(strings.TrimLeft(block, "\t"))]
	lines := strings.SplitAfter(block, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimPrefix(line, tabs)
	}
	last := len(lines) - 1
	lines[last] = strings.TrimLeft(lines[last], "\t")
	return strings.Join(lines, "")
}
