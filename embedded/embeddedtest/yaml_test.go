package embeddedtest_test

import (
	"fmt"
	"strings"
	"testing"

	"millrace/embedded/embeddedtest"
)

func TestYAML(t *testing.T) {
	got := embeddedtest.YAML(t, `
		node:
		  data: $DIR/data
		`, "DIR", "/tmp")
	if want := "node:\n  data: /tmp/data\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// fatal is a test that panics with the message of Fatalf.
type fatal struct{ testing.TB }

func (fatal) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

// A placeholder without a value, and a value without a placeholder, fail the test.
func TestYAMLFails(t *testing.T) {
	for block, want := range map[string]string{"a: $A $B": "$B", "a: 1": "$A"} {
		func() {
			defer func() {
				if text := fmt.Sprint(recover()); !strings.Contains(text, want) {
					t.Errorf("%s: %s, want %s", block, text, want)
				}
			}()
			embeddedtest.YAML(fatal{t}, block, "A", "1")
		}()
	}
}
