package embeddedtest

import (
	"strconv"
	"strings"
	"testing"
)

// ClusterNode returns the configuration of the node n1, n2 and so on of one cluster on loopback, by its index from 0 in
// peers, the addresses at which the nodes reach each other. It keeps its data in dir/data. More keys may follow it.
func ClusterNode(tb testing.TB, index int, dir string, peers []string) string {
	tb.Helper()
	return YAML(tb, `
		version: 1
		node:
		  name: n$N
		  data: $DIR/data
		edge:
		  listen: 127.0.0.1:0
		  linger: 0s
		admin:
		  listen: 127.0.0.1:0
		mesh:
		  listen: 127.0.0.1:0
		  token: token-for-tests-only
		  cluster:
		    name: test
		    listen: $LISTEN
		    peers: [$PEERS]
		`, "N", strconv.Itoa(index+1), "DIR", dir, "LISTEN", peers[index], "PEERS", strings.Join(peers, ", "))
}
