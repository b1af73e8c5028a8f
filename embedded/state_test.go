package embedded_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"millrace/edge/admin"
	"millrace/embedded"
	"millrace/embedded/embeddedtest"
)

// journalOf returns the journal as one text.
func journalOf(t *testing.T, n *embedded.Node) string {
	t.Helper()
	entries, err := n.Journal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, e := range entries {
		all.WriteString(e.Kind + " " + e.Detail + "\n")
	}
	return all.String()
}

// A node that has lost its state reports that in log and journal, with what else is lost: its identity, and the member
// token that it had generated.
func TestLostStateIsReported(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(db string) error
		yaml   string
		want   []string // of the log; the journal has the first of them
		not    []string
	}{
		"empty": {
			func(db string) error { return os.WriteFile(db, nil, 0o600) }, "",
			[]string{"state-lost", "member token", "client.url"},
			nil,
		},
		"gone": {
			func(db string) error { return removeAll(db, db+"-wal", db+"-shm") }, "",
			[]string{"state-lost", "member token", "client.url"},
			nil,
		},
		"a mess": {
			func(db string) error { return os.WriteFile(db, bytes.Repeat([]byte("mess"), 4096), 0o600) }, "",
			[]string{"state-corrupt", "member token", "client.url"},
			nil,
		},
		"a mess, and the token is configured": {
			func(db string) error {
				return os.WriteFile(db, bytes.Repeat([]byte("mess"), 4096), 0o600)
			}, "token-of-the-members",
			[]string{"state-corrupt", "identity"},
			[]string{"member token"},
		},
		"a garbage log": {
			func(db string) error { return os.WriteFile(db+"-wal", bytes.Repeat([]byte("mess"), 4096), 0o600) }, "",
			[]string{"state-log-damaged", "node.db-wal.corrupt-"},
			[]string{"member token"},
		},
		"nothing": {func(string) error { return nil }, "", nil, []string{"state", "member token"}},
	} {
		t.Run(name, func(t *testing.T) {
			opts, _ := settings(t, edgeYAML)
			opts.Config.Mesh.Token = c.yaml
			if err := open(t, opts).Close(); err != nil {
				t.Fatal(err)
			}
			if err := c.damage(filepath.Join(opts.Config.Node.Data, "node.db")); err != nil {
				t.Fatal(err)
			}
			out := &textLog{}
			opts.Log = out.logger()
			journal := journalOf(t, open(t, opts))
			for i, want := range c.want {
				if i == 0 && !strings.Contains(journal, want) {
					t.Errorf("the journal doesn't have %q:\n%s", want, journal)
				}
				if i > 0 && !strings.Contains(out.String(), want) {
					t.Errorf("the log doesn't have %q:\n%s", want, out)
				}
			}
			for _, not := range c.not {
				if strings.Contains(journal, not) || strings.Contains(out.String(), not) {
					t.Errorf("%q is in journal or log:\n%s\n%s", not, journal, out)
				}
			}
		})
	}
}

// If the log of purges is missing at a start, journal and status report it, since everything cached must be fetched
// again.
func TestLostPurgesAreReported(t *testing.T) {
	opts, path := settings(t, edgeYAML)
	write(t, path, opts.ConfigText+embeddedtest.YAML(t, `
		upstreams:
		  api:
		    targets: ["http://127.0.0.1:1"]
		routes:
		  - path: /a
		    to: upstream:api
		    cache: true
		`))
	run := func(lost bool) {
		t.Helper()
		n := open(t, load(t, path))
		if err := n.AwaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Purge(t.Context(), admin.Purge{All: true, Wait: admin.WaitAll}); err != nil {
			t.Fatal(err)
		}
		told := slices.ContainsFunc(n.Status().Degraded, func(text string) bool {
			return strings.HasPrefix(text, "the log of purges was lost")
		})
		written := strings.Contains(journalOf(t, n), "purges-lost ")
		if told != lost || written != lost {
			t.Errorf("told %t, in the journal %t, want %t", told, written, lost)
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
	run(false)
	run(false)
	jetstream := filepath.Join(opts.Config.Node.Data, "jetstream", "jetstream")
	streams, err := filepath.Glob(filepath.Join(jetstream, "*", "streams", "KV_millrace-purges"))
	if err != nil || len(streams) != 1 {
		t.Fatalf("%q, %v", streams, err)
	}
	if err := os.RemoveAll(streams[0]); err != nil {
		t.Fatal(err)
	}
	run(true)
}
