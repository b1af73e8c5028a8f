package embedded_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"millrace/edge"
	"millrace/edge/admin"
	"millrace/embedded"
	"millrace/embedded/embeddedtest"
	"millrace/embedded/natsserver"
	"millrace/embedded/natsserver/natsservertest"
	"millrace/node"
	"millrace/node/config"
	"millrace/node/nodetest"
	"millrace/node/state"
)

// settings writes a configuration for free ports into a directory of the test and returns the options of its node, and
// the file. rest is what the configuration has after base.
func settings(tb testing.TB, rest string) (opts embedded.Options, path string) {
	tb.Helper()
	dir := tb.TempDir()
	path = filepath.Join(dir, "millrace.yaml")
	write(tb, path, base(tb, dir)+rest)
	return load(tb, path), path
}

func load(tb testing.TB, path string) embedded.Options {
	tb.Helper()
	cfg, text, err := config.Load(path)
	if err != nil {
		tb.Fatal(err)
	}
	return embedded.Options{Config: *cfg, ConfigText: string(text), ConfigPath: path, Version: "test"}
}

// base is how every configuration of these tests begins. The node's data is in dir.
func base(tb testing.TB, dir string) string {
	tb.Helper()
	return embeddedtest.YAML(tb, `
		version: 1
		node:
		  data: $DIR/data
		admin:
		  listen: 127.0.0.1:0
		mesh:
		  listen: 127.0.0.1:0
		`, "DIR", dir)
}

func write(tb testing.TB, path, text string) {
	tb.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
}

func open(tb testing.TB, opts embedded.Options) *embedded.Node {
	tb.Helper()
	n, err := embedded.New(opts)
	if err == nil {
		err = n.Open(tb.Context())
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		if err := n.Close(); err != nil {
			tb.Error(err)
		}
	})
	return n
}

func get(tb testing.TB, url string) (int, string) {
	tb.Helper()
	resp, err := http.Get(url)
	if err != nil {
		tb.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

const edgeYAML = `edge:
  listen: 127.0.0.1:0
  linger: 100ms
`

// forward is the rest of a configuration with one route, which forwards a path to the upstream api.
func forward(tb testing.TB, path, url string) string {
	tb.Helper()
	return edgeYAML + embeddedtest.YAML(tb, `
		upstreams:
		  api:
		    targets: [$URL]
		routes:
		  - path: $PATH
		    to: upstream:api
		`, "URL", url, "PATH", path)
}

func app(tb testing.TB, answer string) *httptest.Server {
	tb.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, answer)
	}))
	tb.Cleanup(s.Close)
	return s
}

func TestNodeForwards(t *testing.T) {
	a := app(t, "from the app")
	opts, _ := settings(t, forward(t, "/api/*", a.URL))
	n := open(t, opts)
	if status, body := get(t, n.EdgeURL()+"/api/x"); status != 200 || body != "from the app" {
		t.Errorf("got %d %q", status, body)
	}
	info, err := os.Stat(filepath.Join(opts.Config.Node.Data, "client.url"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("client.url: %v, %v", info, err)
	}
	url, _ := os.ReadFile(filepath.Join(opts.Config.Node.Data, "client.url"))
	if strings.TrimSpace(string(url)) != n.ClientURL() || !strings.Contains(n.ClientURL(), "@127.0.0.1:") {
		t.Errorf("client.url holds %q, the node says %q", url, n.ClientURL())
	}
}

// A node without a version announces itself as "unknown", and other nodes accept that.
func TestVersionDefaultsToUnknown(t *testing.T) {
	opts, _ := settings(t, edgeYAML)
	opts.Version = ""
	if got := open(t, opts).Status().Nodes[0].Version; got != "unknown" {
		t.Errorf("version %q", got)
	}
}

// The admin API reports the state of a node.
func TestAdmin(t *testing.T) {
	a := app(t, "x")
	opts, _ := settings(t, forward(t, "/u/{id}", a.URL))
	n := open(t, opts)
	get(t, n.EdgeURL()+"/u/1")
	for path, want := range map[string]string{
		"/healthz": `"ok"`, "/readyz": `"ready": true`, "/v1/routes": `"path": "/u/{id}"`,
		"/v1/explain?url=/u/7": `"subject": "upstream.api"`,
		"/v1/status":           `"requests": 1`, "/metrics": `millrace_http_requests_total{class="2xx",route="u-id"} 1`,
	} {
		if status, body := get(t, n.AdminURL()+path); status != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s, want %s", path, status, body, want)
		}
	}
	var st admin.FullStatus
	_, body := get(t, n.AdminURL()+"/v1/status")
	if err := json.Unmarshal([]byte(body), &st); err != nil || len(st.Journal) == 0 || st.Journal[0].Kind != "start" ||
		st.Revision != 1 || st.JetStream != "current" || st.ID == "" {
		t.Errorf("status is %s", body)
	}
	_, body = get(t, n.AdminURL()+"/metrics")
	for _, want := range []string{
		`millrace_http_request_duration_seconds_bucket{route="u-id",le="+Inf"} 1`,
		"millrace_ready 1", `millrace_upstream_target_up{target="` + a.URL + `",upstream="api"} 1`, "go_goroutines",
		"process_resident_memory_bytes",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("metrics miss %s", want)
		}
	}
}

// The operator's token protects everything except the probes, and requests from web pages of other sites are refused.
func TestAdminToken(t *testing.T) {
	opts, _ := settings(t, edgeYAML)
	opts.Config.Admin.Token = "0123456789abcdef"
	n := open(t, opts)
	ask := func(method, path string, header ...string) int {
		req, _ := http.NewRequestWithContext(t.Context(), method, n.AdminURL()+path, nil)
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	for _, path := range []string{"/v1/status", "/v1/routes", "/metrics", "/v1/tail"} {
		if got := ask("GET", path); got != 401 {
			t.Errorf("%s without a token: %d", path, got)
		}
		if got := ask("GET", path, "Authorization", "Bearer wrong"); got != 401 {
			t.Errorf("%s with a wrong token: %d", path, got)
		}
	}
	if got := ask("GET", "/v1/status", "Authorization", "Bearer 0123456789abcdef"); got != 200 {
		t.Errorf("with the token: %d", got)
	}
	if ask("GET", "/healthz") != 200 || ask("GET", "/readyz") != 200 {
		t.Error("probes need no token")
	}
	if got := ask("GET", "/v1/status", "Authorization", "0123456789abcdef"); got != 401 {
		t.Errorf("without the scheme: %d", got)
	}
	if got := ask("POST", "/v1/reload", "Authorization", "Bearer 0123456789abcdef", "Sec-Fetch-Site",
		"cross-site"); got != 403 {
		t.Errorf("from another site: %d", got)
	}
}

// Without a token, a web page can't reach the admin API by a name that resolves to this machine (DNS rebinding).
func TestAdminRebinding(t *testing.T) {
	opts, _ := settings(t, edgeYAML)
	n := open(t, opts)
	for host, want := range map[string]int{
		"evil.example": 421, "evil.example:8081": 421, "localhost:8081": 200,
		"127.0.0.1": 200, "[::1]:8081": 200,
	} {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, n.AdminURL()+"/v1/status", nil)
		req.Host = host
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("Host %s: %d, want %d", host, resp.StatusCode, want)
		}
	}
}

// A reload lets the running requests of a removed upstream finish, even if its caller goes away.
func TestReloadFinishesRequests(t *testing.T) {
	entered, finish := make(chan struct{}), make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-finish
		_, _ = io.WriteString(w, "finished")
	}))
	defer slow.Close()
	opts, path := settings(t, forward(t, "/a", slow.URL))
	n := open(t, opts)
	body := make(chan string, 1)
	go func() {
		_, b := get(t, n.EdgeURL()+"/a")
		body <- b
	}()
	<-entered
	write(t, path, base(t, filepath.Dir(path))+edgeYAML)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := n.Reload(ctx)
		done <- err
	}()
	nodetest.Eventually(t, "the new routes serve", func() bool { return len(n.Routes()) == 0 })
	cancel()
	close(finish)
	if got := <-body; got != "finished" {
		t.Errorf("the request that ran got %q", got)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestTailSendsEvents(t *testing.T) {
	opts, _ := settings(t, edgeYAML)
	n := open(t, opts)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", n.AdminURL()+"/v1/tail", nil)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(resp.Body); s.Scan(); {
			lines <- s.Text()
		}
	}()
	nodetest.Eventually(t, "tail tells a request", func() bool {
		get(t, n.EdgeURL()+"/seen")
		select {
		case line := <-lines:
			var e edge.Event
			return json.Unmarshal([]byte(line), &e) == nil && e.Path == "/seen" && e.Status == 404 &&
				e.Route == "unmatched"
		default:
			return false
		}
	})
	cancel()
	for range lines { // ends when the node closes the connection
	}
}

// A reload changes routes and upstreams, and no request fails. A file with mistakes changes nothing, and each mistake
// is reported with its line.
func TestReload(t *testing.T) {
	one, two := app(t, "one"), app(t, "two")
	opts, path := settings(t, forward(t, "/a", one.URL))
	n := open(t, opts)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var done atomic.Int64
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if status, body := get(t, n.EdgeURL()+"/a"); status != 200 {
					t.Errorf("got %d %s", status, body)
					return
				}
				done.Add(1)
			}
		})
	}
	head := base(t, filepath.Dir(path))
	for i := range 20 {
		url := []string{two.URL, one.URL}[i%2]
		write(t, path, head+forward(t, "/a", url))
		if _, err := n.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, body := get(t, n.EdgeURL()+"/a"); body != []string{"two", "one"}[i%2] {
			t.Errorf("reload %d: got %q", i, body)
		}
		write(t, path, head+strings.Replace(forward(t, "/a", url), "upstream:api", "upstream:apo", 1))
		_, err := n.Reload(t.Context())
		var mistakes config.Errors
		if !errors.As(err, &mistakes) || mistakes[0].Line != 16 || !strings.Contains(err.Error(), `"api"`) {
			t.Fatalf("a broken file: %v", err)
		}
	}
	close(stop)
	wg.Wait()
	write(t, path, strings.Replace(head, "node:\n", "node:\n  name: other\n", 1)+forward(t, "/a", one.URL))
	gone, cancel := context.WithCancel(t.Context())
	cancel() // the caller has gone away; the reload must still be complete
	for range 2 {
		got, err := n.Reload(gone)
		if err != nil || len(got.NeedsRestart) != 1 || got.NeedsRestart[0] != "node" ||
			n.Status().Revision != got.Revision {
			t.Errorf("a changed name: %+v, %v", got, err)
		}
	}
	if done.Load() == 0 {
		t.Error("no request ran")
	}
}

// A shutdown under load drops no request: clients move to another node when a response closes their connection.
func TestShutdownUnderLoad(t *testing.T) {
	a := app(t, "x")
	leaving, _ := settings(t, strings.Replace(forward(t, "/*", a.URL), "linger: 100ms", "linger: 3s", 1))
	staying, _ := settings(t, forward(t, "/*", a.URL))
	leaves, stays := open(t, leaving), open(t, staying)
	stop := make(chan struct{})
	var moved, done atomic.Int64
	var wg sync.WaitGroup
	const clients = 20
	for i := range clients {
		wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
			defer client.CloseIdleConnections()
			url, hasMoved := leaves.EdgeURL(), false
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				resp, err := client.Post(url+"/", "text/plain", strings.NewReader("x"))
				if err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if resp.StatusCode != 200 {
					t.Errorf("client %d: status %d", i, resp.StatusCode)
					return
				}
				done.Add(1)
				if resp.Close && !hasMoved {
					url, hasMoved = stays.EdgeURL(), true
					moved.Add(1)
				}
			}
		})
	}
	nodetest.Eventually(t, "requests flow", func() bool { return done.Load() > 200 })
	if err := leaves.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	before := done.Load()
	nodetest.Eventually(t, "requests flow on", func() bool { return done.Load() > before+200 || t.Failed() })
	close(stop)
	wg.Wait()
	if moved.Load() != clients {
		t.Errorf("%d of %d clients were told to move", moved.Load(), clients)
	}
}

// While a node drains, readyz answers 503.
func TestReadyWhileDraining(t *testing.T) {
	opts, _ := settings(t, strings.Replace(edgeYAML, "linger: 100ms", "linger: 10s", 1))
	n := open(t, opts)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Shutdown(ctx) }()
	nodetest.Eventually(t, "readyz answers 503", func() bool {
		status, body := get(t, n.AdminURL()+"/readyz")
		return status == 503 && strings.Contains(body, "shutting down")
	})
	if status, _ := get(t, n.EdgeURL()+"/x"); status != 404 {
		t.Errorf("while it lingers the edge answered %d", status)
	}
	cancel()
	<-done
}

// Identity and token survive a restart. A data directory that is in use or corrupt is reported, and nothing is deleted.
func TestRestartAndState(t *testing.T) {
	opts, _ := settings(t, edgeYAML)
	n := open(t, opts)
	id, url := n.Status().ID, n.ClientURL()
	second, err := embedded.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Open(t.Context()); !errors.Is(err, state.ErrInUse) {
		t.Errorf("a second node on the same directory: %v", err)
	}
	if err := n.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	n = open(t, opts)
	if n.Status().ID != id || strings.Split(n.ClientURL(), "@")[0] != strings.Split(url, "@")[0] {
		t.Error("identity or token changed with a restart")
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	db := filepath.Join(opts.Config.Node.Data, "node.db")
	write(t, db, strings.Repeat("not a database ", 1000))
	n = open(t, opts)
	if n.Status().ID == id {
		t.Error("a corrupt state file kept the identity")
	}
	journal, err := n.Journal(t.Context())
	if err != nil || !strings.Contains(fmt.Sprint(journal), "state-corrupt") {
		t.Errorf("the journal doesn't tell: %v, %v", journal, err)
	}
	aside, _ := filepath.Glob(db + ".corrupt-*")
	if len(aside) == 0 {
		t.Error("the corrupt file wasn't set aside")
	}
}

// A run that wasn't shut down is reported at the next start, however many events followed its start.
func TestCrashOfPreviousRunIsReported(t *testing.T) {
	opts, _ := settings(t, edgeYAML)
	n := open(t, opts)
	if err := n.Close(); err != nil { // like a crash: the stop isn't recorded
		t.Fatal(err)
	}
	s, err := state.New(state.Config{Path: filepath.Join(opts.Config.Node.Data, "node.db")})
	if err == nil {
		err = s.Open(t.Context())
	}
	for range 250 {
		if err == nil {
			err = s.Record(t.Context(), "target-down", "api")
		}
	}
	if err = errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	journal, err := open(t, opts).Journal(t.Context())
	if err != nil || journal[0].Kind != "start" || !strings.Contains(journal[0].Detail, "wasn't shut down") {
		t.Errorf("the journal says %+v, %v", journal[0], err)
	}
}

// If a node can't start, the error says what to change, and nothing stays open.
func TestOpenFails(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := node.Address(l.Addr().String())
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "")
	for _, c := range []struct {
		name   string
		change func(*node.Config)
		is     error
		says   string
	}{
		{"edge port", func(c *node.Config) { c.Edge.Listen = taken }, edge.ErrPortInUse, "edge.listen"},
		{"admin port", func(c *node.Config) { c.Admin.Listen = taken }, admin.ErrPortInUse, "admin.listen"},
		{"NATS port", func(c *node.Config) { c.Mesh.Listen = taken }, natsserver.ErrPortInUse, "mesh.listen"},
		{"data is below a file", func(c *node.Config) { c.Node.Data = file + "/data" }, nil, "node.data"},
		{"mesh.url", func(c *node.Config) { c.Mesh.URL = "nats://127.0.0.1:1" }, nil, "mesh.url"},
	} {
		t.Run(c.name, func(t *testing.T) {
			opts, _ := settings(t, edgeYAML)
			c.change(&opts.Config)
			n, err := embedded.New(opts)
			if err != nil {
				t.Fatal(err)
			}
			err = n.Open(t.Context())
			if err == nil || (c.is != nil && !errors.Is(err, c.is)) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// The mesh works over an existing NATS too, under a prefix. A NATS that can't carry it is refused with the reason.
func TestExistingNATS(t *testing.T) {
	s := natsservertest.Start(t)
	user, password := s.NodeCredential()
	a := app(t, "over another NATS")
	opts, _ := settings(t, forward(t, "/*", a.URL))
	opts.Config.Mesh.URL, opts.Config.Mesh.Prefix = fmt.Sprintf("nats://%s:%s@%s", user, password, s.Addr()),
		"team.shop"
	n := open(t, opts)
	if status, body := get(t, n.EdgeURL()+"/"); status != 200 || body != "over another NATS" {
		t.Errorf("got %d %q", status, body)
	}
	if e := n.Explain("GET", "/", nil); e.Subject != "team.shop.upstream.api" {
		t.Errorf("subject is %s", e.Subject)
	}
	if st := n.Status(); !st.Ready || strings.Contains(st.NATS, password) {
		t.Errorf("status is %+v", st)
	}
	opts, _ = settings(t, forward(t, "/*", a.URL))
	opts.Config.Mesh.URL = s.ClientURL() // a member's credential is not enough
	refused, err := embedded.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := refused.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "mesh.url") {
		t.Errorf("with a member's credential: %v", err)
	}
}

// Explain shows the timeout that applies, and the setting that it comes from.
func TestExplainsTimeouts(t *testing.T) {
	a := app(t, "here")
	opts, _ := settings(t, edgeYAML+embeddedtest.YAML(t, `
		upstreams:
		  short:
		    targets: [$APP]
		    timeout: 10s
		  free:
		    targets: [$APP]
		routes:
		  - path: /short
		    to: upstream:short
		    timeout: 1m
		  - path: /shorter
		    to: upstream:short
		    timeout: 5s
		  - path: /free
		    to: upstream:free
		    timeout: 1m
		  - path: /default
		    to: upstream:free
		  - path: /calls
		    timeout: 20s
		    gather:
		      calls:
		        a:
		          to: upstream:short
		          path: /
		        b:
		          to: upstream:free
		          path: /
		          timeout: 2s
		        c:
		          to: upstream:free
		          path: /
		`, "APP", a.URL))
	n := open(t, opts)
	for path, want := range map[string]edge.Bound{
		"/short":   {Timeout: "10s", TimeoutOf: "upstreams.short.timeout", RouteTimeout: "1m0s"},
		"/shorter": {Timeout: "5s", TimeoutOf: "route"},
		"/free":    {Timeout: "1m0s", TimeoutOf: "route"},
		"/default": {Timeout: "30s", TimeoutOf: "edge.timeout"},
		"/calls":   {Timeout: "20s", TimeoutOf: "route"},
	} {
		e := n.Explain("GET", path, nil)
		if got := fmt.Sprint(e.Timeout, e.TimeoutOf, e.RouteTimeout); got != fmt.Sprint(want.Timeout, want.TimeoutOf,
			want.RouteTimeout) {
			t.Errorf("%s: %s", path, got)
		}
	}
	var calls []string
	for _, c := range n.Explain("GET", "/calls", nil).Calls {
		calls = append(calls, c.Name+" "+c.Timeout+" "+c.TimeoutOf)
	}
	if got := strings.Join(calls, ", "); got != "a 10s upstreams.short.timeout, b 2s call, c 20s route" {
		t.Errorf("calls: %s", got)
	}
}

// BenchmarkStart measures a start on an empty data directory.
func BenchmarkStart(b *testing.B) {
	for range b.N {
		b.StopTimer()
		opts, _ := settings(b, edgeYAML)
		n, err := embedded.New(opts)
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if err := n.Open(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := n.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
