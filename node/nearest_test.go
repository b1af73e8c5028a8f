package node_test

import (
	"errors"
	"fmt"
	"testing"

	"millrace/node"
)

func TestNearest(t *testing.T) {
	keys := []string{"targets", "remote", "timeout", "connect_timeout", "max_requests", "health"}
	for word, want := range map[string]string{
		"tagets": "targets", "target": "targets", "timeouts": "timeout", "time_out": "timeout",
		"connectTimeout": "connect_timeout",
		"maxRequests":    "max_requests", "helth": "health", "targets": "targets", "cache": "", "x": "", "": "",
		"rmeote": "remote", "max-requests": "max_requests", "Health": "health", "time": "", "root": "", "at": "",
	} {
		if got := node.Nearest(word, keys); got != want {
			t.Errorf("nearest to %q is %q, want %q", word, got, want)
		}
	}
	if got := node.Nearest("a", nil); got != "" {
		t.Errorf("nearest of none is %q", got)
	}
}

func TestCodeOf(t *testing.T) {
	cause := errors.New("connection refused")
	err := fmt.Errorf("call api: %w", node.Errorf(node.CodeUpstream, cause, "target %s is away", "api"))
	if got := node.CodeOf(err); got != node.CodeUpstream {
		t.Errorf("got %q", got)
	}
	if !errors.Is(err, cause) {
		t.Error("the cause is lost")
	}
	if got, want := err.Error(), "call api: upstream_failed: target api is away: connection refused"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := node.CodeOf(cause); got != node.CodeInternal {
		t.Errorf("another error has the code %q", got)
	}
	if got := node.CodeOf(nil); got != "" {
		t.Errorf("no error has the code %q", got)
	}
}
