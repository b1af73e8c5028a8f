package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"millrace/edge/admin"
	"millrace/embedded/embeddedtest"
	"millrace/mesh"
	"millrace/node/nodetest"
)

// nodes writes the configuration files of three nodes of one cluster, all with the upstream app and the exposed service
// hello.
func nodes(t *testing.T, app string) (files []string, dirs []string) {
	t.Helper()
	ports := nodetest.FreePorts(t, 3)
	for i := range ports {
		dir := t.TempDir()
		text := embeddedtest.YAML(t, `
			version: 1
			node:
			  name: n$N
			  data: $DIR/data
			edge:
			  listen: 127.0.0.1:0
			  expose: [hello]
			  timeout: 3s
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
			upstreams:
			  app:
			    targets: [$APP]
			routes:
			  - path: /app/*
			    to: upstream:app
			`, "N", strconv.Itoa(i+1), "DIR", dir, "LISTEN", ports[i], "PEERS", strings.Join(ports, ", "), "APP", app)
		files, dirs = append(files, writeConfig(t, dir, text)), append(dirs, dir)
	}
	return files, dirs
}

func (p *process) status(t *testing.T) (st admin.FullStatus) {
	t.Helper()
	resp, err := http.Get(p.admin + "/v1/status")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&st); err != nil {
		t.Fatal(err)
	}
	return st
}

// sees reports whether the node is ready and sees exactly these nodes in these states.
func (p *process) sees(t *testing.T, want map[string]mesh.MemberState) bool {
	t.Helper()
	st := p.status(t)
	got := map[string]mesh.MemberState{}
	for _, m := range st.Nodes {
		got[m.Name] = m.State
	}
	return st.Ready && fmt.Sprint(got) == fmt.Sprint(want)
}

func journaled(st admin.FullStatus, kind, text string) bool {
	return slices.ContainsFunc(st.Journal, func(e admin.JournalEntry) bool {
		return e.Kind == kind && strings.Contains(e.Detail, text)
	})
}

// Three nodes run in three processes:
//
//  1. A service of one is reachable through all.
//  2. One node is killed under load. That fails at most the requests in flight there.
//  3. It starts again, and status reports all of that.
func TestThreeProcesses(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	}))
	defer app.Close()
	files, dirs := nodes(t, app.URL)
	var ps [3]*process
	for i, file := range files {
		ps[i] = startProcess(t, "run", "-c", file)
	}
	all := map[string]mesh.MemberState{"n1": "alive", "n2": "alive", "n3": "alive"}
	for i, p := range ps {
		nodetest.Eventually(t, fmt.Sprintf("n%d sees all three, ready", i+1), func() bool {
			return p.sees(t, all) && p.status(t).JetStream == "current"
		})
	}
	url, err := os.ReadFile(filepath.Join(dirs[2], "data", "client.url"))
	if err != nil {
		t.Fatal(err)
	}
	member, err := nats.Connect(strings.TrimSpace(string(url)))
	if err != nil {
		t.Fatal(err)
	}
	defer member.Close()
	if _, err := member.QueueSubscribe("http.hello", "q", func(m *nats.Msg) {
		_ = m.Respond([]byte("HTTP/1.1 200 OK\r\n\r\nhello"))
	}); err != nil {
		t.Fatal(err)
	}
	for i, p := range ps {
		nodetest.Eventually(t, fmt.Sprintf("the service of n3 answers through n%d", i+1), func() bool {
			_, err := post(http.DefaultClient, p.edge+"/hello")
			return err == nil
		})
	}
	load := startLoad(ps)
	nodetest.Eventually(t, "requests flow", func() bool { return load.done.Load() > 500 })
	if n := load.failed(); n != 0 {
		t.Errorf("%d requests failed before anything happened", n)
	}
	if err := ps[killed].cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*process{ps[0], ps[2]} {
		nodetest.Eventually(t, "the survivors see the loss and stay ready", func() bool {
			return p.sees(t, map[string]mesh.MemberState{"n1": "alive", "n2": "lost", "n3": "alive"})
		})
	}
	before := load.done.Load()
	nodetest.Eventually(t, "requests flow on", func() bool { return load.done.Load() > before+500 })
	st := ps[0].status(t)
	if !journaled(st, mesh.EventLost, "n2") || !slices.ContainsFunc(st.Degraded, func(d string) bool {
		return strings.Contains(d, "n2 is lost")
	}) {
		t.Errorf("n1 doesn't tell of the loss: %+v %q", st.Journal, st.Degraded)
	}
	ps[killed] = startProcess(t, "run", "-c", files[killed])
	for i, p := range ps {
		nodetest.Eventually(t, fmt.Sprintf("n%d sees all three again", i+1), func() bool {
			return p.sees(t, all) && p.status(t).JetStream == "current"
		})
	}
	nodetest.Eventually(t, "the service answers through n2 again", func() bool {
		_, err := post(http.DefaultClient, ps[1].edge+"/hello")
		return err == nil
	})
	load.end(t)
	if st := ps[2].status(t); !journaled(st, mesh.EventRestarted, "n2") {
		t.Errorf("n3 doesn't tell of the return: %+v", st.Journal)
	}
	if st := ps[1].status(t); !journaled(st, "start", "wasn't shut down") {
		t.Errorf("n2 doesn't tell how its last run ended: %+v", st.Journal)
	}
	cmd := exec.Command(os.Args[0], "status", "--journal", "--admin", ps[0].admin)
	cmd.Env = append(os.Environ(), beMillrace+"=1")
	if told, err := cmd.Output(); err != nil || strings.Count(string(told), "alive") != 3 ||
		!strings.Contains(string(told), mesh.EventLost) {
		t.Errorf("millrace status says %s (%v)", told, err)
	}
}

// killed is the index of the node that TestThreeProcesses kills.
const killed = 1

// load is clients with one request in flight each. A client moves to another node when a request fails.
type load struct {
	done  atomic.Int64
	fails [30]atomic.Int64
	wait  sync.WaitGroup
	stop  chan struct{}
}

func startLoad(ps [3]*process) *load {
	l := &load{stop: make(chan struct{})}
	for i := range l.fails {
		l.wait.Go(func() {
			client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}, Timeout: 10 * time.Second}
			defer client.CloseIdleConnections()
			urls := []string{ps[0].edge, ps[1].edge, ps[2].edge}
			at := i % len(urls)
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for n := 0; ; n++ {
				select {
				case <-l.stop:
					return
				case <-tick.C:
				}
				path := []string{"/hello", "/app"}[n%2]
				if _, err := post(client, urls[at]+path); err != nil {
					l.fails[i].Add(1)
					if at == killed {
						at = 0
					}
					continue
				}
				l.done.Add(1)
			}
		})
	}
	return l
}

func (l *load) failed() (n int64) {
	for i := range l.fails {
		n += l.fails[i].Load()
	}
	return n
}

// end stops the load and checks the failures. Each client had one request in flight when the node was killed, so each
// may have failed once. The clients of the killed node may have failed twice: they move at once, perhaps to a node that
// hasn't noticed the lost route yet.
func (l *load) end(t *testing.T) {
	t.Helper()
	close(l.stop)
	l.wait.Wait()
	for i := range l.fails {
		allowed := int64(1)
		if i%3 == killed {
			allowed = 2
		}
		if n := l.fails[i].Load(); n > allowed {
			t.Errorf("client %d failed %d times", i, n)
		}
	}
	t.Logf("%d requests, %d failed", l.done.Load(), l.failed())
}
