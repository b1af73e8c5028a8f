package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/nats-io/nats.go"

	"millrace/embedded/embeddedtest"
	"millrace/node/nodetest"
)

// runCommand runs a command in this process and returns its output and exit code.
func runCommand(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, err nodetest.Output
	code = run(args, console{&out, &err})
	return out.String(), err.String(), code
}

// join connects a member of the services to the node whose data directory is below dir.
func join(t *testing.T, dir, name string, services ...string) {
	t.Helper()
	url, err := os.ReadFile(filepath.Join(dir, "data", "client.url"))
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(strings.TrimSpace(string(url)), nats.Name(name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	for _, service := range services {
		if _, err := nc.QueueSubscribe("http."+service, "q", func(m *nats.Msg) {
			_ = m.Respond([]byte("HTTP/1.1 200 OK\r\n\r\nhi"))
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}

// Status lists services with their members, and for each route its rates of requests, errors and hits, and its
// latencies. The journal is printed on request only.
func TestStatusShowsServicesAndRoutes(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/bad") {
			w.WriteHeader(http.StatusInternalServerError)
		}
		w.Header().Set("Cache-Control", "max-age=60")
	}))
	defer app.Close()
	p := startRun(t, "0s", embeddedtest.YAML(t, `
		upstreams:
		  app:
		    targets: [$APP]
		routes:
		  - path: /greet/*
		    to: service:greet
		  - path: /none/*
		    to: service:none
		  - path: /bad/*
		    to: upstream:app
		  - path: /kept/*
		    to: upstream:app
		    cache: true
		  - path: /both
		    gather:
		      calls:
		        one:
		          to: service:greet
		          path: /
		        two:
		          to: service:part
		          path: /
		`, "APP", app.URL))
	join(t, p.dir, "greeter", "greet", "unrouted")
	join(t, p.dir, "greeter", "greet")
	for range 4 {
		for _, path := range []string{"/greet/x", "/bad/x", "/kept/x", "/none/x"} {
			resp, err := http.Get(p.edge + path)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		}
	}
	out, _, code := runCommand(t, "status", "--admin", p.admin)
	for _, want := range []string{
		`(?m)^service greet +2 members: greeter on `, `(?m)^service none +nobody serves it$`,
		`(?m)^service part +nobody serves it$`,
		`(?m)^service unrouted +1 member: greeter on `,
		`(?m)^route +takes +requests/s +5xx +4xx +hits +p50 +p99 +requests since the start$`,
		`(?m)^greet-all +/greet/\* +\d+\.\d +0\.0 % +0\.0 % +- +[0-9.]+ ms +[0-9.]+ ms +4$`,
		`(?m)^bad-all +/bad/\* +\d+\.\d +100\.0 % +0\.0 % +- +.* 4$`,
		`(?m)^kept-all +/kept/\* +\d+\.\d +0\.0 % +0\.0 % +75\.0 % +.* 4$`,
		`(?m)^none-all +/none/\* +\d+\.\d +100\.0 % `, `(?m)^node \S+ +alive  revision 1`,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("status doesn't say %s:\n%s", want, out)
		}
	}
	if code != exitOK || regexp.MustCompile(`(?m)^(member |journal)`).MatchString(out) {
		t.Errorf("status exits with %d, and says:\n%s", code, out)
	}
	if out, _, _ = runCommand(t, "status", "--journal", "--admin", p.admin); !strings.Contains(out, "start  version") {
		t.Errorf("status --journal says:\n%s", out)
	}
}

// Explain shows who serves the services of a route, of a gather and of an exposed name.
func TestExplainShowsWhoServes(t *testing.T) {
	p := startRun(t, "0s", embeddedtest.YAML(t, `
		  expose: ["*"]
		routes:
		  - path: /hello/*
		    to: service:greet
		  - path: /both
		    gather:
		      calls:
		        one:
		          to: service:greet
		          path: /
		        two:
		          to: service:part
		          path: /
		  - path: /plain/{id}
		    to: nats:orders.get.{id}
		`))
	says := func(path string, want ...string) {
		t.Helper()
		out, _, _ := runCommand(t, "explain", path, "--admin", p.admin)
		for _, w := range want {
			if !regexp.MustCompile("(?m)" + w).MatchString(out) {
				t.Errorf("explain %s doesn't say %s:\n%s", path, w, out)
			}
		}
	}
	says("/hello/you", `^service greet +nobody serves it: a member subscribes to http.greet in queue group q$`)
	says("/free", `^route +exposed \(/\{service\}/\*\)$`,
		`^service free +nobody serves it: a member subscribes to http.free in queue group q$`,
		`! the answer is 404: no route matches, and nobody has served free since this node started$`)
	says("/plain/7", `^subject +orders.get.7$`, `! nobody subscribes to orders.get.7$`)
	join(t, p.dir, "greeter", "greet", "free")
	says("/hello/you", `^service greet +1 member: greeter on `)
	says("/free", `^service free +1 member: greeter on `)
	resp, err := http.Get(p.edge + "/free")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if out, _, _ := runCommand(t, "explain", "/free", "--admin", p.admin); strings.Contains(out, "404") {
		t.Errorf("explain of a name that is served says:\n%s", out)
	}
	says("/both", `^service greet +1 member: greeter on `, `^service part +nobody serves it$`)
}

// Tail shows query, cache status, target and the member or upstream target that answered. A refused request has the
// limit and no target. What a shadow limit would have refused is a line of its own, without zeros. Members don't see
// the query.
func TestTailShowsRequests(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
	}))
	defer app.Close()
	p := startRun(t, "0s", embeddedtest.YAML(t, `
		upstreams:
		  app:
		    targets: [$APP]
		routes:
		  - path: /kept/*
		    to: upstream:app
		    cache: true
		  - path: /few
		    to: upstream:app
		    limit:
		      max: 1
		      window: 1h
		      name: small
		  - path: /seen
		    to: upstream:app
		    limit:
		      max: 1
		      window: 1h
		      name: shady
		      shadow: true
		`, "APP", app.URL))
	url, err := os.ReadFile(filepath.Join(p.dir, "data", "client.url"))
	if err != nil {
		t.Fatal(err)
	}
	member, err := nats.Connect(strings.TrimSpace(string(url)))
	if err != nil {
		t.Fatal(err)
	}
	defer member.Close()
	heard, err := member.SubscribeSync("event.>")
	if err != nil {
		t.Fatal(err)
	}
	var out nodetest.Output
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		c := tailCmd{adminFlags: adminFlags{Admin: p.admin}}
		ended <- c.Run(ctx, console{newScreen(&out), newScreen(&out)})
	}()
	get := func(path string) {
		resp, err := http.Get(p.edge + path)
		if err != nil {
			t.Error(err)
			return
		}
		resp.Body.Close()
	}
	nodetest.Eventually(t, "events are shown", func() bool {
		get("/kept/first")
		return strings.Contains(out.String(), "/kept/first")
	})
	get("/kept/x?token=se%20cret")
	get("/kept/x?token=se%20cret")
	get("/few?b=2")
	get("/few?b=2")
	get("/seen")
	get("/seen")
	get("/nowhere")
	host := strings.TrimPrefix(p.edge, "http://")
	addr := strings.TrimPrefix(app.URL, "http://")
	kept := host + `/kept/x\?token=se%20cret`
	const at = `(?m)^\d\d:\d\d:\d\d\.\d\d\d  `
	for _, want := range []string{
		at + `200  GET    "` + kept + `"  [0-9.]+ ms  cache uri-miss  kept-all → upstream:app \(` + addr + `\)$`,
		at + `200  GET    "` + kept + `"  [0-9.]+ ms  cache hit  kept-all → upstream:app$`,
		at + `200  GET    "` + host + `/few\?b=2"  [0-9.]+ ms  few → upstream:app \(` + addr + `\)$`,
		at + `429  GET    "` + host + `/few\?b=2"  [0-9.]+ ms  few: over limit small, from 127\.0\.0\.1$`,
		at + `lim  GET    "/seen"  over limit shady, let pass, since it is a shadow  seen  from 127\.0\.0\.1$`,
		at + `200  GET    "` + host + `/seen"  [0-9.]+ ms  seen → upstream:app \(` + addr + `\)$`,
		at + `404  GET    "` + host + `/nowhere"  [0-9.]+ ms  unmatched → nowhere$`,
	} {
		line := regexp.MustCompile(want)
		nodetest.Eventually(t, "tail shows "+want, func() bool { return line.MatchString(out.String()) })
	}
	if strings.Contains(out.String(), `lim  GET    "/few"`) {
		t.Errorf("a refusal has two lines:\n%s", out.String())
	}
	if regexp.MustCompile(`(?m)  0  `).MatchString(out.String()) {
		t.Errorf("lines of zeros:\n%s", out.String())
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("tail ended with %v", err)
	}
	for {
		msg, err := heard.NextMsg(200 * time.Millisecond)
		if err != nil {
			break
		}
		if strings.Contains(string(msg.Data), "cret") || !json.Valid(msg.Data) {
			t.Errorf("a member heard %s", msg.Data)
		}
	}
}

// A proxy prints a line for each request if asked to; without being asked it does so on a terminal only.
func TestProxyPrintsRequests(t *testing.T) {
	app := httptest.NewServer(http.NotFoundHandler())
	defer app.Close()
	for _, flag := range []string{"--lines", "--no-lines"} {
		p := startProcess(t, "proxy", app.URL, "--listen", "127.0.0.1:0", flag)
		line := regexp.MustCompile(`(?m)^\S+  404  GET    "127\.0\.0\.1:\d+/x\?y=1"  [0-9.]+ ms  ` +
			`all → upstream:api \(127\.0\.0\.1:\d+\)$`)
		ask := func() bool {
			resp, err := http.Get(p.edge + "/x?y=1")
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			return line.MatchString(p.stdout.String())
		}
		if flag == "--lines" {
			nodetest.Eventually(t, "the request has its line", ask)
		} else if ask() {
			t.Errorf("%s prints %s", flag, p.stdout)
		}
		if code, _ := p.end(t, 2); code != exitOK {
			t.Errorf("exit code %d; stderr: %s", code, p.stderr)
		}
	}
}

// Nothing that clients, origins and members choose acts on the operator's terminal or begins a line.
func TestNothingActsOnTheTerminal(t *testing.T) {
	const evil = "a\x1b]0;owned\x07\x1b[2Jb\u009b31m\u202ec"
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header()["Cache-Tag"] = []string{"evil\u009b31m\u202e"}
		w.Header().Set("Vary", "X-A")
	}))
	defer app.Close()
	p := startRun(t, "0s", embeddedtest.YAML(t, `
		upstreams:
		  app:
		    targets: [$APP]
		routes:
		  - path: /kept/*
		    to: upstream:app
		    cache:
		      ttl: 1h
		      key: ["header:X-B"]
		    limit: 100/1h
		  - path: /m
		    to: service:m
		`, "APP", app.URL))
	join(t, p.dir, evil, "m")
	req, _ := http.NewRequestWithContext(t.Context(), "GET", p.edge+"/kept/x?q=%1b", nil)
	req.Header["X-B"] = []string{"v\u009b31m\u202e"}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	shown := map[string]string{}
	for _, args := range [][]string{
		{"purge", "--tag", evil + "\nready  true"},
		{"purge", evil},
		{"purge", "--host", evil},
		{"purge", "--tag", evil, "--json"},
		{"explain", "/kept/x?q=%1b", "-H", "X-B: v\u009b31m\u202e"},
		{"explain", "/kept/" + evil},
		{"explain", "/m"},
		{"explain", "/m", "-X", evil},
		{"explain", "/m", "--json"},
		{"limits", "show", evil},
		{"limits", "reset", evil},
		{"limits", "show", evil, "--json"},
		{"limits", "show", "x", "--limit", evil},
		{"status"},
		{"status", "--journal"},
		{"status", "--json"},
		{"check", evil},
		{"run", "--" + evil},
		{evil},
		{"reload"},
	} {
		if args[0] != "check" && args[0] != "run" && args[0] != evil {
			args = append(args, "--admin", p.admin)
		}
		stdout, stderr, _ := runCommand(t, args...)
		name := strings.ReplaceAll(strings.Join(args[:min(len(args), 2)], " "), evil, "EVIL")
		shown[name] += stdout + stderr
		for _, r := range stdout + stderr {
			if r != '\n' && r != '\t' && (unicode.Is(unicode.Cc, r) || unicode.Is(unicode.Cf, r)) {
				t.Errorf("%s prints %q", name, stdout+stderr)
				break
			}
		}
	}
	for name, want := range map[string]string{
		"purge --tag":           `purged: tag "a\x1b]0;owned\a\x1b[2Jb\u009b31m\u202ec\nready  true", sequence`,
		"status --journal":      `\nready  true", sequence`,
		"explain /kept/x?q=%1b": `tags          "evil\u009b31m\u202e"`,
		"explain /m":            `1 member: "a\x1b]0;owned\a`, "limits reset": `"a\x1b]0;owned\a`,
	} {
		if !strings.Contains(shown[name], want) {
			t.Errorf("%s doesn't quote what comes from outside as %s:\n%s", name, want, shown[name])
		}
	}
}
