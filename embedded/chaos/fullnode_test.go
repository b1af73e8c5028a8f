//go:build system

package chaos_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"millrace/embedded/embeddedtest"
	"millrace/node/nodetest"
)

// fullNode fills the disk of one of three nodes. The others keep serving; the node reports what is wrong, and stores
// again by itself once there is space.
func fullNode(t *testing.T, _ bool) string {
	t.Helper()
	ports := nodetest.FreePorts(t, 3)
	disk := smallDisk(t, 256)
	var three []*nodeProcess
	for i := range ports {
		data := t.TempDir()
		if i == 0 {
			data = disk
		}
		three = append(three, start(t, t.TempDir(), embeddedtest.YAML(t, `
			version: 1
			node:
			  name: n$N
			  data: $DIR/data
			edge:
			  listen: 127.0.0.1:0
			admin:
			  listen: 127.0.0.1:0
			mesh:
			  listen: 127.0.0.1:0
			  token: token-for-tests-only
			  cluster:
			    name: test
			    listen: $LISTEN
			    peers: [$PEERS]
			routes:
			  - path: /limited
			    limit:
			      max: 100000
			      window: 1s
			    respond:
			      status: 200
			      body: ok
			  - path: /plain
			    respond:
			      status: 200
			      body: ok
			`, "N", strconv.Itoa(i+1), "DIR", data, "LISTEN", ports[i], "PEERS", strings.Join(ports, ", "))))
	}
	for i, p := range three {
		within(t, wait, fmt.Sprintf("n%d is ready", i+1), func() bool { ok, _ := p.readyz(); return ok })
	}
	full, others := three[0], three[1:]
	free := fill(t, disk, 0)
	reported := within(t, wait, "n1 says that its disk is full and JetStream is off", func() bool {
		get(full.edge + "/limited")
		_, text := full.readyz()
		return strings.Contains(text, "is full") && full.status(t).JetStream == "disabled"
	})
	for i, p := range others {
		within(t, wait, fmt.Sprintf("n%d goes on", i+2), func() bool {
			code, _ := get(p.edge + "/limited")
			return code == http.StatusOK
		})
	}
	if code, _ := get(full.edge + "/plain"); code != http.StatusOK {
		t.Errorf("a plain route of n1 answers %d", code)
	}
	free()
	recovered := within(t, wait, "n1 stores again", func() bool {
		ok, text := full.readyz()
		return ok && full.status(t).JetStream == "current" && !strings.Contains(text, "is full") &&
			!strings.Contains(text, "JetStream")
	})
	return fmt.Sprintf("told after %.1f s, whole %.1f s after there was room", reported.Seconds(), recovered.Seconds())
}
