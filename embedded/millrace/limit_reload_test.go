package main

import (
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"millrace/mesh"
	"millrace/node/nodetest"
)

// startWithout starts three nodes without limits, and adds the limits by reloading one node after another. Meanwhile
// clients use another limit; the test logs how many requests fail. A reload waits for the store of limits to be
// created, but not for long.
func startWithout(t *testing.T, limits ...string) *cacheCluster {
	t.Helper()
	app := greeter(t)
	before, after := limitRoutes(t, app, "first: []"), limitRoutes(t, app, append(limits, "first: 1000000/15m")...)
	c := writeCluster(t, func(int) string { return before })
	all := map[string]mesh.MemberState{"n1": "alive", "n2": "alive", "n3": "alive"}
	for _, n := range c.nodes {
		n.start(t)
	}
	for _, n := range c.nodes {
		nodetest.Eventually(t, "the cluster has formed", func() bool {
			return n.sees(t, all) && n.status(t).JetStream == "current"
		})
	}
	var stop atomic.Bool
	meanwhile := make(chan statuses)
	go func() {
		meanwhile <- limitClients{path: "/first", nodes: c.nodes[:], atOnce: 3, until: &stop}.ask(1 << 20)
	}()
	for _, n := range c.nodes {
		text, err := os.ReadFile(n.file)
		if err == nil {
			err = os.WriteFile(n.file, []byte(strings.Replace(string(text), before, after, 1)), 0o600)
		}
		if err != nil {
			t.Error(err)
		}
		resp, err := http.Post(n.admin+"/v1/reload", "", nil)
		if err != nil {
			t.Error(err)
			continue
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("the reload answers %s", resp.Status)
		}
	}
	stop.Store(true)
	got := <-meanwhile
	t.Logf("while limits came: %s", got)
	if got.admitted() == 0 || got[http.StatusTooManyRequests] > 0 || got[0] > 0 {
		t.Errorf("while limits came: %s", got)
	}
	c.counts(t)
	return c
}
