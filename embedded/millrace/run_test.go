package main

import (
	"context"
	"slices"
	"strings"
	"testing"

	"millrace/embedded"
	"millrace/node/nodetest"
)

// Without a configuration file a node exposes every service, and says so in log and banner.
func TestRunWithoutFile(t *testing.T) {
	t.Chdir(t.TempDir())
	var stdout, stderr nodetest.Output
	out := console{&stdout, &stderr}
	opts, serves, err := (&runCmd{}).options(t.Context(), out)
	if err != nil || !slices.Equal(opts.Config.Edge.Expose, []string{"*"}) {
		t.Fatalf("exposes %q, %v", opts.Config.Edge.Expose, err)
	}
	const warning = `"level":"WARN",` +
		`"msg":"there is no configuration file: every service of the mesh is exposed at /NAME"`
	if log := stderr.String(); !strings.Contains(log, warning) ||
		!strings.Contains(log, `"file":"millrace.yaml"`) {
		t.Errorf("the log says %s", log)
	}
	ctx, cancel := context.WithCancel(t.Context())
	opts.Config.Node.Data, opts.Config.Edge.Linger = t.TempDir(), 0
	s := serving{open: opener(withPorts(opts, false, anyPort)), out: out, signals: &signals{again: make(chan struct{})}}
	s.banner = func(n *embedded.Node, ready *readiness) {
		printBanner(out.stdout, n, "n1", serves, "", "/", ready)
		cancel()
	}
	if err := s.run(ctx); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(stdout.String(), "  → every service of the mesh, at /NAME: there is no millrace.yaml\n") {
		t.Errorf("the banner says %s", stdout.String())
	}
}
