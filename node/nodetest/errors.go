package nodetest

import (
	"strings"
	"testing"
)

// WantError fails the test unless err contains the wanted text; "" wants no error. input is what err is about.
func WantError(tb testing.TB, input string, err error, want string) {
	tb.Helper()
	switch {
	case want == "" && err != nil:
		tb.Errorf("%q: %v", input, err)
	case want != "" && err == nil:
		tb.Errorf("%q is accepted, want an error with %q", input, want)
	case want != "" && !strings.Contains(err.Error(), want):
		tb.Errorf("%q: %v, want an error with %q", input, err, want)
	}
}
