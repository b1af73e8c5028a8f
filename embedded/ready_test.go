package embedded_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"

	"millrace/embedded"
	"millrace/embedded/embeddedtest"
	"millrace/node/nodetest"
)

// threeOptions returns the options of three nodes of one cluster with the same routes.
func threeOptions(t *testing.T, routes string) (out []embedded.Options) {
	t.Helper()
	ports := nodetest.FreePorts(t, 3)
	for i := range ports {
		dir := t.TempDir()
		path := dir + "/millrace.yaml"
		write(t, path, embeddedtest.ClusterNode(t, i, dir, ports)+routes)
		out = append(out, load(t, path))
	}
	return out
}

// ready returns what readyz answers.
func ready(t *testing.T, n *embedded.Node) (ok bool, degraded string) {
	t.Helper()
	status, body := get(t, n.AdminURL()+"/readyz")
	var answer struct {
		Ready    bool
		Degraded []string
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Ready != (status == http.StatusOK) {
		t.Errorf("readyz answers %d %s", status, body)
	}
	return answer.Ready, strings.Join(answer.Degraded, "\n")
}

// In a cluster that starts, a node is ready once its limited routes are served, and not before. A node without the
// others isn't ready.
func TestReadyMeansLimitsAreServed(t *testing.T) {
	three := threeOptions(t, embeddedtest.YAML(t, `
		routes:
		  - path: /limited
		    limit: 1000/1h
		    respond:
		      status: 200
		      body: ok
		`))
	first := open(t, three[0])
	for range 50 { // it can't store anything yet
		status, _ := get(t, first.EdgeURL()+"/limited")
		if ok, _ := ready(t, first); ok && status != http.StatusOK {
			t.Fatalf("ready, and a limited route answers %d", status)
		}
	}
	if ok, degraded := ready(t, first); ok || degraded == "" {
		t.Errorf("one of three: ready %t, degraded %q", ok, degraded)
	}
	var nodes sync.WaitGroup
	for _, opts := range three[1:] {
		n := open(t, opts)
		nodes.Go(func() { servesWhenReady(t, n) })
	}
	nodes.Go(func() { servesWhenReady(t, first) })
	nodes.Wait()
}

// servesWhenReady waits until the node is ready and uses its limited route at once.
func servesWhenReady(t *testing.T, n *embedded.Node) {
	t.Helper()
	nodetest.Eventually(t, "the node is ready", func() bool { ok, _ := ready(t, n); return ok })
	for i := range 20 {
		if status, body := get(t, n.EdgeURL()+"/limited"); status != http.StatusOK {
			t.Errorf("ready, and request %d of a limited route answers %d %s", i, status, body)
		}
	}
}
