package embedded_test

import (
	"os"
	"strings"
	"testing"

	"millrace/embedded"
	"millrace/embedded/embeddedtest"
	"millrace/node/nodetest"
)

// A node notices that its data directory was moved or deleted: it isn't ready, says what is missing, and serves what it
// can. When the same directory is back, it is ready again.
func TestDeletedDirectoryIsNoticed(t *testing.T) {
	opts, _ := settings(t, edgeYAML+embeddedtest.YAML(t, `
		routes:
		  - path: /plain
		    respond:
		      status: 200
		      body: ok
		  - path: /limited
		    limit: 100/1h
		    respond:
		      status: 200
		      body: ok
		`))
	out := &textLog{}
	opts.Log = out.logger()
	n := open(t, opts)
	data := opts.Config.Node.Data
	isReady := func() bool { ok, _ := ready(t, n); return ok }
	nodetest.Eventually(t, "the node is ready", isReady)
	if err := os.Rename(data, data+".away"); err != nil {
		t.Fatal(err)
	}
	noticed(t, n, data)
	if !strings.Contains(out.String(), "deleted or replaced") {
		t.Errorf("the log doesn't tell: %s", out)
	}
	if _, err := os.Stat(data); err == nil {
		t.Error("the node has made its directory anew, in which nothing of it is")
	}
	if err := os.Rename(data+".away", data); err != nil {
		t.Fatal(err)
	}
	nodetest.Eventually(t, "the node is ready again", isReady)
	nodetest.Eventually(t, "all is deleted, though streams still write into it", func() bool {
		return os.RemoveAll(data) == nil
	})
	noticed(t, n, data)
	if status, _ := get(t, n.EdgeURL()+"/plain"); status != 200 {
		t.Errorf("a plain route answers %d", status)
	}
}

func noticed(t *testing.T, n *embedded.Node, data string) {
	t.Helper()
	nodetest.Eventually(t, "the node isn't ready and says why", func() bool {
		ok, degraded := ready(t, n)
		return !ok && strings.Contains(degraded, data+" was deleted or replaced")
	})
}

// The node also notices that its state or the directory of the streams was moved.
func TestDeletedPartsAreNoticed(t *testing.T) {
	opts, _ := settings(t, edgeYAML)
	n := open(t, opts)
	data := opts.Config.Node.Data
	for _, part := range []string{"/node.db", "/jetstream"} {
		if err := os.Rename(data+part, data+part+".away"); err != nil {
			t.Fatal(err)
		}
		noticed(t, n, data+part)
		if err := os.Rename(data+part+".away", data+part); err != nil {
			t.Fatal(err)
		}
		nodetest.Eventually(t, "the node is ready again", func() bool { ok, _ := ready(t, n); return ok })
	}
}
