package main

import (
	"bufio"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"millrace/embedded/embeddedtest"
	"millrace/mesh"
	"millrace/node/nodetest"
)

// cacheNode is a node with a cache on fixed addresses, so that clients keep reaching it after a restart.
type cacheNode struct {
	*process // replaced only by the test's goroutine

	edge, admin string // URLs
	file        string
}

// cacheCluster is three nodes whose connections to one another go through links that can be cut.
type cacheCluster struct {
	nodes [3]*cacheNode
	links [3][3]*link // from the first to the second
}

// startCluster starts three nodes with the route /* to the upstream, cached. stores are the fields of their cache
// sections; they may be empty.
func startCluster(t *testing.T, upstream string, stores [3]string) *cacheCluster {
	t.Helper()
	c := writeCluster(t, func(i int) string {
		return embeddedtest.YAML(t, `
			cache: {$STORE}
			upstreams:
			  app:
			    targets: [$APP]
			routes:
			  - path: /*
			    to: upstream:app
			    cache: true
			  - path: /slow/*
			    to: upstream:app
			    cache: true
			    timeout: 60s
			`, "STORE", stores[i], "APP", upstream)
	})
	for _, n := range c.nodes {
		n.start(t)
	}
	c.settled(t)
	return c
}

// writeCluster writes the configurations of three nodes. rest returns what node i has after its cluster section.
//
// Each node listens on an address of its own, 127.0.0.2 and so on, and the others know it only by the addresses of the
// links. nats-server gossips the port with the address that a link seems to come from, 127.0.0.1, where nobody listens.
func writeCluster(t *testing.T, rest func(i int) string) *cacheCluster {
	t.Helper()
	c := &cacheCluster{}
	ports := nodetest.FreePorts(t, 9)
	port := func(i int) string { return strings.TrimPrefix(ports[i], "127.0.0.1:") }
	for i := range c.nodes {
		host := fmt.Sprintf("127.0.0.%d:", i+2)
		peers := make([]string, len(c.nodes))
		for j := range c.nodes {
			if peers[j] = host + port(i); j != i {
				c.links[i][j] = newLink(t, fmt.Sprintf("127.0.0.%d:%s", j+2, port(j)))
				peers[j] = c.links[i][j].addr
			}
		}
		c.nodes[i] = writeNode(t, host+port(3+2*i), host+port(4+2*i), "n"+strconv.Itoa(i+1), embeddedtest.YAML(t, `
			  token: token-for-tests-only
			  cluster:
			    name: test
			    listen: $LISTEN
			    peers: [$PEERS]
			`, "LISTEN", host+port(i), "PEERS", strings.Join(peers, ", "))+rest(i))
	}
	return c
}

// startAlone starts one node with the route /* to the upstream. cache is the value of the route's cache, store the
// fields of the node's cache section.
func startAlone(t *testing.T, upstream, cache, store string) *cacheNode {
	t.Helper()
	ports := nodetest.FreePorts(t, 2)
	for i := range ports { // not 127.0.0.1, where clients get their ports
		ports[i] = strings.Replace(ports[i], "127.0.0.1", "127.0.0.2", 1)
	}
	n := writeNode(t, ports[0], ports[1], "n1", embeddedtest.YAML(t, `
		cache: {$STORE}
		upstreams:
		  app:
		    targets: [$APP]
		routes:
		  - path: /*
		    to: upstream:app
		    cache: $CACHE
		`, "STORE", store, "APP", upstream, "CACHE", cache))
	n.start(t)
	nodetest.Eventually(t, "the node may serve what it has stored", n.follows)
	return n
}

// writeNode writes the configuration of a node. rest is what follows mesh.listen.
func writeNode(t *testing.T, edge, admin, name, rest string) *cacheNode {
	t.Helper()
	dir := t.TempDir()
	file := writeConfig(t, dir, embeddedtest.YAML(t, `
		version: 1
		node:
		  name: $NAME
		  data: $DIR/data
		edge:
		  listen: $EDGE
		  timeout: 2s
		  linger: 0s
		admin:
		  listen: $ADMIN
		mesh:
		  listen: 127.0.0.1:0
		`, "NAME", name, "DIR", dir, "EDGE", edge, "ADMIN", admin)+rest)
	return &cacheNode{edge: "http://" + edge, admin: "http://" + admin, file: file}
}

func (n *cacheNode) start(t *testing.T) {
	t.Helper()
	n.process = startProcess(t, "run", "-c", n.file)
	if n.process.edge != n.edge || n.process.admin != n.admin {
		t.Fatalf("the node is at %s and %s, not at %s and %s", n.process.edge, n.process.admin, n.edge, n.admin)
	}
}

func (n *cacheNode) send(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := n.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// kill ends the process like a loss of power.
func (n *cacheNode) kill(t *testing.T) {
	t.Helper()
	n.send(t, syscall.SIGKILL)
	_ = n.cmd.Wait() // the error says that it was killed
	n.checkOutput(t)
}

// end ends the process as an operator would.
func (n *cacheNode) end(t *testing.T) {
	t.Helper()
	n.send(t, syscall.SIGTERM)
	if err := n.cmd.Wait(); err != nil {
		t.Errorf("the process ended with %v; stderr: %s", err, n.stderr)
	}
	n.checkOutput(t)
}

// checkOutput fails the test if the ended process has reported a data race or a panic.
func (n *cacheNode) checkOutput(t *testing.T) {
	t.Helper()
	for _, word := range []string{"DATA RACE", "panic"} {
		if strings.Contains(n.stderr.String(), word) {
			t.Errorf("%s: %s", word, n.stderr)
		}
	}
}

// metrics returns the values of /metrics by name with labels.
func (n *cacheNode) metrics() (map[string]float64, error) {
	resp, err := http.Get(n.admin + "/metrics")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	out := map[string]float64{}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if name, value, ok := strings.Cut(lines.Text(), " "); ok && name != "#" {
			if out[name], err = strconv.ParseFloat(value, 64); err != nil {
				return nil, err
			}
		}
	}
	return out, lines.Err()
}

// follows reports whether the node follows the purges and has opened its bucket.
func (n *cacheNode) follows() bool {
	m, err := n.metrics()
	return err == nil && m["millrace_cache_ready"] == 1 && m[`millrace_cache_bytes{tier="bucket"}`] >= 0
}

// settled waits until every node knows all others and may serve what it has stored.
func (c *cacheCluster) settled(t *testing.T) {
	t.Helper()
	all := map[string]mesh.MemberState{"n1": "alive", "n2": "alive", "n3": "alive"}
	for i, n := range c.nodes {
		nodetest.Eventually(t, fmt.Sprintf("n%d knows all others and follows the purges", i+1), func() bool {
			return n.sees(t, all) && n.status(t).JetStream == "current" && n.follows()
		})
	}
}

func (c *cacheCluster) end(t *testing.T) {
	t.Helper()
	for _, n := range c.nodes {
		n.end(t)
	}
}

// of returns the links from and to a node.
func (c *cacheCluster) of(node int) (out []*link) {
	for i := range c.nodes {
		if i != node {
			out = append(out, c.links[i][node], c.links[node][i])
		}
	}
	return out
}

// cut disconnects a node from the others: depending on how, its connections end, or hold back data until join.
func (c *cacheCluster) cut(node int, how linkState) {
	for _, l := range c.of(node) {
		l.set(how)
	}
}

func (c *cacheCluster) join(node int) { c.cut(node, linkOpen) }
