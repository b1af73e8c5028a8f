//go:build system

package main_test

import "testing"

// TestNodeCache: the JavaScript example stores values in the mesh's cache. Of twenty that load a value at the same
// time, one does the work.
func TestNodeCache(t *testing.T) {
	n := startNode(t, build(t, "./embedded/millrace"))
	p := start(t, nodeMember, []string{"NATS_URL=" + n.client}, "node", "cache.js")
	<-p.exited
	const want = "get {\"name\":\"Ada\"}\nloads 1 answers [42]\ndeleted true\n"
	if got := p.stdout.String(); p.err != nil || got != want {
		t.Errorf("it ended with %v and wrote %q %q, want %q", p.err, got, p.stderr.String(), want)
	}
}
