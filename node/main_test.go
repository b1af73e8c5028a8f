package node_test

import (
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wantError fails unless err contains the wanted text; "" wants no error.
func wantError(t *testing.T, input string, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("%q: %v", input, err)
	case want != "" && err == nil:
		t.Errorf("%q is accepted, want an error with %q", input, want)
	case want != "" && !strings.Contains(err.Error(), want):
		t.Errorf("%q: %v, want an error with %q", input, err, want)
	}
}
