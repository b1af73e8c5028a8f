//go:build system

package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"image"
	"image/color"
	"image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"millrace/node/nodetest"
)

// TestSiteBrowser publishes a single-page application, built as bundlers do it, and looks at it with a real browser:
// routes that only its script knows, a page that stays open while the next deploy goes live, and a preview.
func TestSiteBrowser(t *testing.T) {
	millrace := build(t, "./embedded/millrace")
	reports, upstream := startReports(t)
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"millrace.yaml": strings.ReplaceAll(browserConfig, "UPSTREAM", upstream)})
	first := bundle{version: "1", index: "index-DQrWtyNk.js", about: "About-DcoKPMtA.js"}
	second := bundle{version: "2", index: "index-Bf7Lk9Xa.js", about: "About-C8s1PqZz.js"}
	first.write(t, filepath.Join(dir, "dist1"))
	second.write(t, filepath.Join(dir, "dist2"))
	edge := "http://" + start(t, dir, nil, millrace, "run").find(t, `edge +http://(\S+)`)
	publish := func(args ...string) string {
		return runCommand(t, dir, millrace, append([]string{"publish", "--site", "www"}, args...)...)
	}

	publish("dist1")
	t.Run("its routes are rendered", func(t *testing.T) {
		for path, want := range map[string]string{
			"/": "<h1>Home 1</h1>", "/users/7": "<h1>User 7 1</h1>", "/about": "<h1>About 1</h1>",
		} {
			wantPage(t, edge+path, want)
		}
	})
	t.Run("a page that is open stays whole", func(t *testing.T) {
		openPage(t, edge+"/wait")
		if r := reports.next(t); r.Step != "open" || r.HTML != "<h1>Waiting 1</h1>" {
			t.Fatalf("the page reports %+v", r)
		}
		publish("dist2")
		r := reports.next(t)
		if r.Step != "next" || r.Path != "/about" || r.HTML != "<h1>About 1</h1>" {
			t.Errorf("after the next deploy the open page reports %+v, want the first deploy's chunk", r)
		}
		if r.Missing != http.StatusNotFound || r.Imported || strings.Contains(r.Type, "html") {
			t.Errorf("a script that was never published is %+v, want 404 and no HTML", r)
		}
		wantPage(t, edge+"/about", "<h1>About 2</h1>")
	})
	t.Run("a preview has a host of its own", func(t *testing.T) {
		printed := publish("dist1", "--preview", "next")
		url := regexp.MustCompile(`http://next-\S+\.preview\.localhost:\d+`).FindString(printed)
		if url == "" {
			t.Fatalf("publish prints no URL:\n%s", printed)
		}
		wantPage(t, url+"/users/7", "<h1>User 7 1</h1>")
		wantPage(t, edge+"/users/7", "<h1>User 7 2</h1>")
	})
	t.Run("a script that is missing isn't the page", func(t *testing.T) {
		missing(t, edge+"/assets/"+first.index+"x")
		missing(t, edge+"/assets/index-Zz12Yx34.js")
	})
}

const browserConfig = `version: 1
node: {name: n1, data: ./data}
edge: {listen: "127.0.0.1:0", linger: 0s}
admin: {listen: "127.0.0.1:0"}
mesh: {listen: "127.0.0.1:0"}
sites:
  www: {spa: true, preview: "*.preview.localhost"}
upstreams:
  reports: {targets: [UPSTREAM]}
routes:
  - {path: /*, to: site:www}
  - {path: /report, methods: [POST], to: upstream:reports}
`

// bundle is a build of the application. The names of its scripts hold hashes; those of one build aren't in the other.
type bundle struct{ version, index, about string }

// write writes the build's folder: a page, a module that renders routes, a chunk that is loaded when its route is
// opened, a style sheet and an image.
func (b bundle) write(t *testing.T, dir string) {
	t.Helper()
	var dot bytes.Buffer
	pixels := image.NewRGBA(image.Rect(0, 0, 3, 2))
	pixels.Set(1, 1, color.White)
	if err := png.Encode(&dot, pixels); err != nil {
		t.Fatal(err)
	}
	fill := strings.NewReplacer("VERSION", b.version, "INDEX", b.index, "ABOUT", b.about).Replace
	writeFiles(t, dir, map[string]string{
		"index.html":                fill(browserPage),
		"version.txt":               b.version,
		"robots.txt":                "User-agent: *\nAllow: /\n",
		"assets/" + b.index:         fill(browserRouter),
		"assets/" + b.about:         fill("export default () => '<h1>About VERSION</h1>'\n"),
		"assets/index-DykytF2W.css": "h1 { color: rgb(1, 2, 3) }\n",
		"assets/dot-CLDdwZDr.png":   dot.String(),
	})
}

const browserPage = `<!doctype html>
<html lang="en">
<head>
<meta charset="UTF-8">
<script type="module" crossorigin src="/assets/INDEX"></script>
<link rel="stylesheet" crossorigin href="/assets/index-DykytF2W.css">
</head>
<body><a href="/about">about</a><img src="/assets/dot-CLDdwZDr.png"><div id="app"></div></body>
</html>
`

// browserRouter renders the route of the location, and afterwards marks the page as rendered, with what tells that its
// style sheet and image have been loaded. At /wait it stays until another deploy is live and follows a link then.
const browserRouter = `const app = document.getElementById('app')
const routes = [
  [/^\/$/, () => '<h1>Home VERSION</h1>'],
  [/^\/users\/(\d+)$/, id => '<h1>User ' + id + ' VERSION</h1>'],
  [/^\/about$/, () => import('./ABOUT').then(m => m.default())],
  [/^\/wait$/, () => '<h1>Waiting VERSION</h1>'],
]

async function render() {
  for (const [path, page] of routes) {
    const found = path.exec(location.pathname)
    if (found) app.innerHTML = await page(...found.slice(1))
  }
  const image = document.querySelector('img')
  await image.decode()
  document.body.dataset.image = image.naturalWidth + 'x' + image.naturalHeight
  document.body.dataset.color = getComputedStyle(document.querySelector('h1')).color
}

function open(path) {
  history.pushState({}, '', path)
  return render()
}

const read = async path => (await fetch(path)).text()

function report(step, more) {
  const seen = {step, path: location.pathname, html: app.innerHTML, ...more}
  return fetch('/report', {method: 'POST', body: JSON.stringify(seen)})
}

async function wait() {
  await report('open')
  while (await read('/version.txt') === 'VERSION') await new Promise(done => setTimeout(done, 20))
  try {
    await open(document.querySelector('a').getAttribute('href'))
  } catch (err) {
    app.innerHTML = String(err)
  }
  const missing = '/assets/About-Zz12Yx34.js'
  const imported = await import(missing).then(() => true, () => false)
  const answer = await fetch(missing)
  await report('next', {imported, missing: answer.status, type: answer.headers.get('Content-Type')})
}

await render()
if (location.pathname === '/wait') await wait()
`

// report is what the page at /wait has seen.
type report struct {
	Step, Path, HTML string
	Missing          int    // the status of a script that was never published
	Type             string // its Content-Type
	Imported         bool   // whether it could be imported
}

// reports gets what pages report. The server closes nothing: 16 reports may wait, more are a mistake of the test.
type reports chan report

// next waits for a report.
func (r reports) next(t *testing.T) report {
	t.Helper()
	select {
	case got := <-r:
		return got
	case <-time.After(patience):
		t.Fatalf("the page has reported nothing in %s", patience)
		return report{}
	}
}

// startReports starts the server that gets the reports, and returns its URL.
func startReports(t *testing.T) (got reports, url string) {
	t.Helper()
	got = make(reports, 16)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var r report
		if err := json.NewDecoder(req.Body).Decode(&r); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		select {
		case got <- r:
		default:
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}))
	t.Cleanup(server.Close)
	return got, server.URL
}

// wantPage fails unless the browser's document has the text once scripts have run, and style sheet and image are there.
func wantPage(t *testing.T, url, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var stderr bytes.Buffer
	cmd := browser(ctx, t, "--virtual-time-budget=10000", "--dump-dom", url)
	cmd.Stderr = &stderr
	document, err := cmd.Output()
	if err != nil {
		t.Fatalf("chromium of %s: %v\n%s", url, err, &stderr)
	}
	for _, want := range []string{text, `data-image="3x2"`, `data-color="rgb(1, 2, 3)"`} {
		if !strings.Contains(string(document), want) {
			t.Errorf("the document of %s has no %s:\n%s", url, want, document)
		}
	}
}

// openPage opens a page and keeps it open until the test ends.
func openPage(t *testing.T, url string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := browser(ctx, t, url)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = cmd.Wait() }) // it ends by the signal
}

// browser returns the command that runs Chromium with a profile of its own.
func browser(ctx context.Context, t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(ctx, "chromium", append([]string{
		"--headless=new", "--no-sandbox", "--disable-gpu",
		"--disable-dev-shm-usage", "--no-first-run", "--user-data-dir=" + browserProfile(t),
	}, args...)...)
	cmd.WaitDelay = patience // children may keep its output open
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // its children too
	return cmd
}

// browserProfile returns an empty directory for a Chromium. Its processes write there until the last of them has ended,
// which may be after the first one has, so it is removed as soon as that is possible.
func browserProfile(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "chromium") //nolint:usetesting // t.TempDir fails while somebody still writes there
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		nodetest.Eventually(t, "the browser's directory is removed", func() bool { return os.RemoveAll(dir) == nil })
	})
	return dir
}

// missing fails unless a browser that navigates to the URL gets 404 and no page.
func missing(t *testing.T, url string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/html,*/*;q=0.8")
	req.Header.Set("Sec-Fetch-Mode", "navigate")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusNotFound || bytes.Contains(body, []byte("<html")) ||
		resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s is %s, %v, %v:\n%s", url, resp.Status, err, resp.Header, body)
	}
}

// runCommand runs a command to its end and returns what it prints.
func runCommand(t *testing.T, dir, program string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", filepath.Base(program), args, err, out)
	}
	return string(out)
}

// writeFiles writes files below a folder, which is made.
func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
