package embedded_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"millrace/edge/admin"
	"millrace/embedded"
	"millrace/embedded/embeddedtest"
	"millrace/embedded/natsserver"
	"millrace/mesh"
	"millrace/node/nodetest"
)

// clustered returns a configuration whose node is one of a cluster: it listens on the first of the ports and has a peer
// at the second.
func clustered(tb testing.TB, text string, ports []string) string {
	tb.Helper()
	const mesh = "mesh:\n  listen: 127.0.0.1:0\n"
	return strings.Replace(text, mesh, mesh+embeddedtest.YAML(tb, `
		  token: token-for-tests-only
		  cluster:
		    name: c
		    listen: $LISTEN
		    peers: [$PEER]
		`, "LISTEN", ports[0], "PEER", ports[1]), 1)
}

// A member that subscribes in the wrong queue group is reported with its name within a second.
func TestWrongGroupIsNamed(t *testing.T) {
	opts, _ := settings(t, edgeYAML)
	n := open(t, opts)
	member, err := nats.Connect(n.ClientURL(), nats.Name("billing"),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		t.Fatal(err)
	}
	defer member.Close()
	begin := time.Now()
	for range 3 { // a member retries
		if _, err := member.QueueSubscribeSync("http.invoices", "workers"); err != nil {
			t.Fatal(err)
		}
	}
	told := func() (out []admin.JournalEntry) {
		journal, err := n.Journal(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return slices.DeleteFunc(journal, func(e admin.JournalEntry) bool { return e.Kind != "member-refused" })
	}
	nodetest.Eventually(t, "the refusal is in the journal", func() bool { return len(told()) > 0 })
	took := time.Since(begin)
	if err := member.Flush(); err != nil {
		t.Fatal(err)
	}
	got := told()
	if len(got) != 1 || !strings.Contains(got[0].Detail, "billing") ||
		!strings.Contains(got[0].Detail, `"http.invoices" in queue group "workers"`) {
		t.Errorf("the journal says %+v", got)
	}
	t.Logf("named after %s", took)
}

// Log and journal report a refused subscription, and what to subscribe to instead.
func TestRefusedSubscriptionsSayWhatToDo(t *testing.T) {
	opts, _ := settings(t, edgeYAML)
	var out textLog
	opts.Log = out.logger()
	n := open(t, opts)
	quiet := nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})
	member, err := nats.Connect(n.ClientURL(), nats.Name("js"), quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer member.Close()
	for _, c := range []struct{ subject, queue, hint string }{
		{"http.noq", "", "subscribe in queue group q"},
		{"http.wrongq", "zz", "subscribe in queue group q"},
		{"_INBOX.a", "", "the prefix _INBOX_NAME"},
		{"orders.new", "", "members subscribe to http.NAME in queue group q"},
	} {
		if _, err := member.QueueSubscribeSync(c.subject, c.queue); err != nil {
			t.Fatal(err)
		}
		nodetest.Eventually(t, c.subject+" is told with "+c.hint, func() bool {
			written := slices.ContainsFunc(strings.Split(out.String(), "\n"), func(line string) bool {
				return strings.Contains(line, "subscription was refused") && strings.Contains(line, c.subject) &&
					strings.Contains(line, c.hint)
			})
			return written && strings.Contains(journalOf(t, n), c.hint)
		})
	}
}

// A node doesn't join a cluster with a directory that it used alone: the streams in it would be deleted.
func TestStandAloneDirectoryStaysOut(t *testing.T) {
	opts, _ := settings(t, edgeYAML)
	n := open(t, opts)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	ports := nodetest.FreePorts(t, 2)
	write(t, opts.ConfigPath, clustered(t, opts.ConfigText, ports))
	joins := load(t, opts.ConfigPath)
	other, err := embedded.New(joins)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Open(t.Context()); !errors.Is(err, natsserver.ErrMode) || !strings.Contains(err.Error(), "delete") {
		t.Errorf("got %v", err)
	}
	write(t, opts.ConfigPath, opts.ConfigText)
	again := open(t, load(t, opts.ConfigPath))
	journal, err := again.Journal(t.Context())
	if err != nil || !slices.ContainsFunc(journal, func(e admin.JournalEntry) bool {
		return e.Kind == "start-failed" && strings.Contains(e.Detail, "stand-alone")
	}) {
		t.Errorf("the journal says %+v, %v", journal, err)
	}
}

// A node reports the roles that it has, not those that a changed file gives it at the next start.
func TestRolesAfterReload(t *testing.T) {
	opts, path := settings(t, edgeYAML)
	n := open(t, opts)
	roles := func(want ...string) {
		t.Helper()
		if got := n.Status().Nodes[0].Roles; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	roles("edge", "store")
	text := clustered(t, opts.ConfigText, []string{"127.0.0.1:6222", "127.0.0.1:6223"})
	text = strings.Replace(text, "  cluster:\n", "  cluster:\n    store: false\n", 1)
	write(t, path, text+embeddedtest.YAML(t, `
		upstreams:
		  api:
		    targets: ["http://127.0.0.1:1"]
		`))
	if _, err := n.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	roles("edge", "store", "upstream:api")
}

// A storing node that reaches no other isn't ready at first, says why, and serves all the same.
func TestStoringNodeAloneIsNotReady(t *testing.T) {
	ports := nodetest.FreePorts(t, 2)
	a := app(t, "from the app")
	opts, path := settings(t, forward(t, "/a", a.URL))
	write(t, path, clustered(t, opts.ConfigText, ports))
	n := open(t, load(t, path))
	st := n.Status()
	if st.Ready || st.JetStream != "joining" ||
		!strings.Contains(strings.Join(st.Degraded, "\n"), "mesh.cluster.peers") {
		t.Errorf("ready %t, JetStream %s, %q", st.Ready, st.JetStream, st.Degraded)
	}
	nodetest.Eventually(t, "it says that the first start needs all, and names who is missing", func() bool {
		return slices.ContainsFunc(n.Status().Degraded, func(text string) bool {
			return strings.Contains(text, "the first start needs all storing nodes") &&
				strings.HasSuffix(text, "answer: "+ports[1])
		})
	})
	if status, body := get(t, n.EdgeURL()+"/a"); status != 200 || body != "from the app" {
		t.Errorf("got %d %q", status, body)
	}
}

// Two nodes with the same name report that for as long as both run.
func TestSecondNodeOfANameIsReported(t *testing.T) {
	opts, _ := settings(t, edgeYAML)
	n := open(t, opts)
	other := mesh.Member{ID: "other", Name: opts.Config.Node.Name, Incarnation: 1, Version: "v", Started: time.Now()}
	b, err := json.Marshal(other)
	if err != nil {
		t.Fatal(err)
	}
	nodetest.Eventually(t, "the node tells of its namesake", func() bool {
		if err := n.Mesh().NATS().Publish("millrace.members", b); err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(n.Status().Degraded, func(text string) bool {
			return strings.HasPrefix(text,
				"another node is named "+opts.Config.Node.Name+", with the id other: set node.name")
		})
	})
}
