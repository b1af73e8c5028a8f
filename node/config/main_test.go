package config_test

import (
	"flag"
	"testing"

	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// environment has the variables that the test files use.
func environment(name string) (string, bool) {
	value, ok := map[string]string{
		"NAME": "hello", "HOST": "127.0.0.1", "MAX": "12", "NUMBER": "10", "WORD": "word", "EMPTY": "",
		"SECRET": "hush-secret", "STRUCTURE": "a, b: [c]\nd: e",
	}[name]
	return value, ok
}
