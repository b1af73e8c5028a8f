package embedded_test

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"millrace/edge/admin"
	"millrace/embedded/embeddedtest"
	"millrace/mesh"
	"millrace/node/config"
	"millrace/node/nodetest"
)

// A serving node refuses every broken file of the tree with its line, and nothing else changes.
func TestBrokenReloads(t *testing.T) {
	a := app(t, "from the app")
	opts, path := settings(t, forward(t, "/a", a.URL))
	n := open(t, opts)
	broken, err := filepath.Glob("../node/config/testdata/mistakes/*.yaml")
	if err != nil || len(broken) < 50 {
		t.Fatalf("%d broken files, %v", len(broken), err)
	}
	stop := make(chan struct{})
	var wait sync.WaitGroup
	var served atomic.Int64
	for range 4 {
		wait.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				resp, err := http.Get(n.EdgeURL() + "/a")
				if err != nil {
					t.Error(err)
					return
				}
				_ = resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					t.Errorf("got %d", resp.StatusCode)
				}
				served.Add(1)
			}
		})
	}
	nodetest.Eventually(t, "requests flow", func() bool { return served.Load() > 10 })
	for _, file := range broken {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		write(t, path, string(text))
		_, err = n.Reload(t.Context())
		mistakes, ok := errors.AsType[config.Errors](err)
		if !ok || mistakes[0].Line == 0 && !strings.Contains(err.Error(), "millrace.yaml") {
			t.Errorf("%s: %v", filepath.Base(file), err)
		}
	}
	before := served.Load()
	nodetest.Eventually(t, "requests flow on", func() bool { return served.Load() > before+10 })
	close(stop)
	wait.Wait()
	st := n.Status()
	if st.Revision != 1 || !st.Ready {
		t.Errorf("revision %d, ready %t, after nothing but broken files", st.Revision, st.Ready)
	}
	journal, err := n.Journal(t.Context())
	if err != nil || len(journal) == 0 || journal[0].Kind != "reload-refused" ||
		!strings.Contains(journal[0].Detail, "millrace.yaml:") {
		t.Errorf("the journal says %+v, %v", journal, err)
	}
	t.Logf("%d broken files, %d requests served", len(broken), served.Load())
}

// slowApp answers at once, except /a/slow, which it answers when finish is called or the test ends. entered receives an
// element for each such request.
func slowApp(t *testing.T) (url string, entered chan struct{}, finish func()) {
	t.Helper()
	entered, wait := make(chan struct{}, 10), make(chan struct{})
	finish = sync.OnceFunc(func() { close(wait) })
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/a/slow" {
			entered <- struct{}{}
			<-wait
		}
	}))
	t.Cleanup(s.Close)
	t.Cleanup(finish)
	return s.URL, entered, finish
}

// ask starts a request whose outcome doesn't matter. It ends before the test does.
func ask(t *testing.T, url string) {
	t.Helper()
	var done sync.WaitGroup
	done.Go(func() {
		if resp, err := http.Get(url); err == nil {
			_ = resp.Body.Close()
		}
	})
	t.Cleanup(done.Wait)
}

// routed is the rest of a configuration with one route /NAME/* for each upstream, written as NAME or NAME: FIELD.
func routed(tb testing.TB, url string, upstreams ...string) string {
	tb.Helper()
	var ups, routes strings.Builder
	for _, u := range upstreams {
		name, field, _ := strings.Cut(u, ": ")
		ups.WriteString(embeddedtest.YAML(tb, `
			  $NAME:
			    targets: [$URL]
			    $FIELD
			`, "NAME", name, "URL", url, "FIELD", field))
		routes.WriteString(embeddedtest.YAML(tb, `
			  - path: /$NAME/*
			    to: upstream:$NAME
			`, "NAME", name))
	}
	return edgeYAML + "upstreams:\n" + ups.String() + "routes:\n" + routes.String()
}

// A reload cancels a request that doesn't finish in time, and nothing else: the new configuration is served, saved and
// reported.
func TestReloadCutsOff(t *testing.T) {
	for name, upstreams := range map[string][]string{
		"removed":                      {"b"},
		"a new limit cuts nothing off": {"a: max_requests: 20", "b"},
	} {
		t.Run(name, func(t *testing.T) {
			app, entered, finish := slowApp(t)
			opts, path := settings(t, routed(t, app, "a"))
			n := open(t, opts)
			defer finish()
			n.SetReloadTime(20 * time.Millisecond)
			ask(t, n.EdgeURL()+"/a/slow")
			<-entered
			write(t, path, base(t, filepath.Dir(path))+routed(t, app, upstreams...))
			done, err := n.Reload(t.Context())
			cut := len(done.Warnings) == 1 && strings.Contains(done.Warnings[0], "cut off")
			if err != nil || done.Revision != 2 || cut != (name == "removed") {
				t.Errorf("got %+v, %v", done, err)
			}
			if st := n.Status(); st.Revision != 2 || len(st.Upstreams) != len(upstreams) {
				t.Errorf("revision %d, upstreams %+v", st.Revision, st.Upstreams)
			}
			if status, _ := get(t, n.EdgeURL()+"/b/x"); status != http.StatusOK {
				t.Errorf("the new route answers %d", status)
			}
			journal, err := n.Journal(t.Context())
			if err != nil || journal[0].Kind != "reload" {
				t.Errorf("the journal says %+v, %v", journal, err)
			}
		})
	}
}

// A reload that has waited for another still has all of its own time.
func TestReloadAfterReload(t *testing.T) {
	app, entered, _ := slowApp(t)
	opts, path := settings(t, routed(t, app, "a"))
	n := open(t, opts)
	n.SetReloadTime(200 * time.Millisecond)
	ask(t, n.EdgeURL()+"/a/slow")
	<-entered
	write(t, path, base(t, filepath.Dir(path))+routed(t, app, "b"))
	first := make(chan error, 1)
	go func() {
		_, err := n.Reload(t.Context())
		first <- err
	}()
	nodetest.Eventually(t, "the first reload serves", func() bool { return n.Routes()[0].Path == "/b/*" })
	write(t, path, base(t, filepath.Dir(path))+routed(t, app, "c"))
	done, err := n.Reload(t.Context())
	if err != nil || len(done.Warnings) > 0 || done.Revision != 3 {
		t.Errorf("the second: %+v, %v", done, err)
	}
	if err := <-first; err != nil {
		t.Errorf("the first: %v", err)
	}
	if status, _ := get(t, n.EdgeURL()+"/c/x"); status != http.StatusOK {
		t.Errorf("got %d", status)
	}
}

// A configuration that can't be saved is still served, and the operator gets a warning.
func TestReloadNotSaved(t *testing.T) {
	opts, path := settings(t, edgeYAML)
	n := open(t, opts)
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(opts.Config.Node.Data, "node.db"))
	if err == nil {
		_, err = db.ExecContext(t.Context(),
			"CREATE TRIGGER t BEFORE INSERT ON configs BEGIN SELECT RAISE(ABORT, 'no room'); END")
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, path, opts.ConfigText+embeddedtest.YAML(t, `
		routes:
		  - path: /new
		    to: service:new
		`))
	done, err := n.Reload(t.Context())
	if err != nil || done.Revision != 1 || len(done.Warnings) != 1 ||
		!strings.Contains(done.Warnings[0], "applied, but not saved") {
		t.Errorf("got %+v, %v", done, err)
	}
	if routes := n.Routes(); len(routes) != 1 || routes[0].Path != "/new" {
		t.Errorf("routes are %+v", routes)
	}
	journal, err := n.Journal(t.Context())
	if err != nil || journal[0].Kind != "reload" || !strings.Contains(journal[0].Detail, "no room") {
		t.Errorf("the journal says %+v, %v", journal, err)
	}
}

// A node that shuts down refuses reloads: they would start its upstreams again.
func TestReloadWhileShuttingDown(t *testing.T) {
	app, _, _ := slowApp(t)
	yaml := strings.Replace(routed(t, app, "a"), "linger: 100ms", "linger: 10s", 1)
	opts, _ := settings(t, yaml)
	n := open(t, opts)
	ctx, cancel := context.WithCancel(t.Context())
	down := make(chan error, 1)
	go func() { down <- n.Shutdown(ctx) }()
	nodetest.Eventually(t, "the node drains", func() bool { return !n.Status().Ready })
	refused := func(when string) {
		t.Helper()
		if done, err := n.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "shutting down") {
			t.Errorf("%s: got %+v, %v", when, done, err)
		}
	}
	refused("while it lingers")
	cancel()
	<-down // its error doesn't matter
	refused("afterwards")
	if ups := n.Status().Upstreams; len(ups) != 0 {
		t.Errorf("upstreams are %+v", ups)
	}
}

// A reload that waits for a request doesn't delay a shutdown beyond the shutdown's own deadline.
func TestShutdownWhileReloading(t *testing.T) {
	app, entered, _ := slowApp(t)
	opts, path := settings(t, routed(t, app, "a"))
	n := open(t, opts)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { // as another node would
		_, _ = n.Mesh().Do(t.Context(), n.Mesh().Upstream("a"),
			&mesh.Request{Method: "POST", Target: "/a/slow", Host: "h", Deadline: time.Now().Add(time.Minute)})
	})
	<-entered
	write(t, path, base(t, filepath.Dir(path))+routed(t, app, "b"))
	type result struct {
		done admin.Reloaded
		err  error
	}
	reloaded := make(chan result, 1)
	go func() {
		done, err := n.Reload(t.Context())
		reloaded <- result{done, err}
	}()
	nodetest.Eventually(t, "the reload serves", func() bool { return n.Routes()[0].Path == "/b/*" })
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	begin := time.Now()
	_ = n.Shutdown(ctx) // may report that ctx ended
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("the shutdown took %s", took)
	}
	if got := <-reloaded; got.err != nil || len(got.done.Warnings) != 1 {
		t.Errorf("the reload gave %+v, %v", got.done, got.err)
	}
}
