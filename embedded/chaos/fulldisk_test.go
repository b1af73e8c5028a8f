//go:build system

package chaos_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"millrace/embedded/embeddedtest"
)

// diskYAML is the configuration of a node that stands alone, with a limited, a cached and a plain route. The windows of
// the limit are short, so that the node uses the store all the time.
func diskYAML(t *testing.T, data string) string {
	t.Helper()
	return embeddedtest.YAML(t, `
		version: 1
		node:
		  data: $DATA
		edge:
		  listen: 127.0.0.1:0
		admin:
		  listen: 127.0.0.1:0
		mesh:
		  listen: 127.0.0.1:0
		upstreams:
		  admin:
		    targets: ["http://127.0.0.1:1"]
		routes:
		  - path: /limited
		    limit:
		      max: 3
		      window: 1s
		    respond:
		      status: 200
		      body: ok
		  - path: /cached
		    cache: 1h
		    to: upstream:admin
		  - path: /plain
		    respond:
		      status: 200
		      body: ok
		`, "DATA", data)
}

// readyz returns whether the node is ready, and the body of the answer.
func (p *nodeProcess) readyz() (ready bool, text string) {
	code, body := get(p.admin + "/readyz")
	return code == http.StatusOK, body
}

// purge purges everything, waits for all nodes, and returns the answer.
func (p *nodeProcess) purge(t *testing.T) (status int, body string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, p.admin+"/v1/purge", strings.NewReader(`{"all": true, "wait": "all"}`))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Timeout: 20 * time.Second}).Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

// limitedServes reports whether the limited route answers according to its limit.
func (p *nodeProcess) limitedServes() bool {
	code, _ := get(p.edge + "/limited")
	return code == http.StatusOK || code == http.StatusTooManyRequests
}

// fullDisk fills the disk of a node that stands alone, and frees it again. The node must report that, keep serving what
// needs no disk, and recover by itself once there is space. In the long form, so must a node that is started while the
// disk is full.
func fullDisk(t *testing.T, long bool) string {
	t.Helper()
	disk := smallDisk(t, 256)
	dir := t.TempDir()
	p := start(t, dir, diskYAML(t, disk+"/data"))
	within(t, wait, "the node is ready", func() bool { ok, _ := p.readyz(); return ok })
	reported, recovered := fillAndFree(t, p, disk)
	seen := fmt.Sprintf("told after %.1f s, whole %.1f s after there was room", reported.Seconds(), recovered.Seconds())
	if !long {
		return seen
	}
	for range 4 {
		fillAndFree(t, p, disk)
	}
	free := fill(t, disk, 0)
	within(t, wait, "a write has failed", func() bool { get(p.edge + "/limited"); ok, _ := p.readyz(); return !ok })
	p.stop()
	again := start(t, dir, diskYAML(t, disk+"/data"))
	within(t, wait, "the node that was started on a full disk says so", func() bool {
		ok, text := again.readyz()
		return !ok && strings.Contains(text, "is full")
	})
	if code, body := get(again.edge + "/plain"); code != http.StatusOK {
		t.Errorf("started on a full disk, a plain route answers %d %s", code, body)
	}
	free()
	recoveredAgain := within(t, wait, "the node is ready", func() bool {
		ok, _ := again.readyz()
		return ok && again.limitedServes()
	})
	return fmt.Sprintf("%s; started on a full disk, whole %.1f s after", seen, recoveredAgain.Seconds())
}

// fillAndFree returns how long the node took to report the full disk, and how long to recover.
func fillAndFree(t *testing.T, p *nodeProcess, disk string) (reported, recovered time.Duration) {
	t.Helper()
	free := fill(t, disk, 0)
	reported = within(t, wait, "the node isn't ready, and says that its disk is full", func() bool {
		get(p.edge + "/limited")
		if code, body := get(p.edge + "/plain"); code != http.StatusOK {
			t.Fatalf("on a full disk a plain route answers %d %s", code, body)
		}
		ok, text := p.readyz()
		return !ok && strings.Contains(text, "is full")
	})
	if _, metrics := get(p.admin + "/metrics"); !strings.Contains(metrics, "millrace_limit_ready 0") ||
		!strings.Contains(metrics, "millrace_ready 0") {
		t.Error("metrics say that limits are ready")
	}
	free()
	recovered = within(t, wait, "the node is ready and its limited route serves", func() bool {
		ok, _ := p.readyz()
		return ok && p.limitedServes()
	})
	if code, body := p.purge(t); code != http.StatusOK {
		t.Errorf("after there was room a purge answers %d %s", code, body)
	}
	within(t, wait, "nothing is left of it", func() bool {
		_, text := p.readyz()
		return !strings.Contains(text, "full") && !strings.Contains(text, "JetStream")
	})
	return reported, recovered
}
