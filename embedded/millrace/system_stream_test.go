//go:build system

package main_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// streamMiB is the length of a long body: small in CI, and what STREAM_MIB says for "task streams".
func streamMiB() int64 {
	if n, err := strconv.ParseInt(os.Getenv("STREAM_MIB"), 10, 64); err == nil {
		return n
	}
	return 32
}

func noise(n int64) io.Reader { return io.LimitReader(rand.NewChaCha8([32]byte{7}), n) }

func hashed(r io.Reader) string {
	h := sha256.New()
	_, _ = io.Copy(h, r)
	return hex.EncodeToString(h.Sum(nil))
}

// ask sends a request and returns the hash of the response, or the response itself if it is JSON.
func ask(t *testing.T, method, url, contentType string, body io.Reader) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		b, _ := io.ReadAll(resp.Body)
		return string(b)
	}
	h := sha256.New()
	n, err := io.Copy(h, resp.Body)
	if err != nil {
		t.Errorf("%s %s: after %d bytes: %v", method, url, n, err)
	}
	return fmt.Sprintf("%d %d %x", resp.StatusCode, n, h.Sum(nil))
}

// form returns an upload as a browser sends it.
func form(t *testing.T, size int64) (contentType string, body []byte) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	_ = w.SetBoundary("fixed")
	_ = w.WriteField("note", "from a form")
	file, err := w.CreateFormFile("file", "large.bin")
	if err == nil {
		_, err = io.Copy(file, noise(size))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return w.FormDataContentType(), b.Bytes()
}

// TestExpressStreams: an Express application with ws, an upload form and downloads works the same behind millrace
// proxy, and a browser uses its WebSocket and its EventSource.
func TestExpressStreams(t *testing.T) {
	app := start(t, "testdata/express", nil, "node", "streams.js")
	direct := "http://127.0.0.1:" + app.find(t, `(?m)^(\d+)$`)
	proxy := start(t, "", nil, build(t, "./embedded/millrace"), "proxy", direct, "--listen", "127.0.0.1:0")
	edge := proxy.find(t, `edge +(http://\S+)`)
	defer http.DefaultClient.CloseIdleConnections()
	size := streamMiB() << 20
	for name, do := range map[string]func(url string) string{
		"upload form": func(url string) string {
			ct, b := form(t, 20<<20)
			return ask(t, "POST", url+"/form", ct, bytes.NewReader(b))
		},
		"small form": func(url string) string {
			ct, b := form(t, 20<<10)
			return ask(t, "POST", url+"/form", ct, bytes.NewReader(b))
		},
		"upload": func(url string) string { return ask(t, "PUT", url+"/raw", "", noise(size)) },
		"download": func(url string) string {
			return ask(t, "GET", fmt.Sprint(url, "/file/", size), "", nil)
		},
		"download by chunks": func(url string) string {
			return ask(t, "GET", fmt.Sprint(url, "/download/", size), "", nil)
		},
		"small download, chunks": func(url string) string { return ask(t, "GET", url+"/download/10", "", nil) },
		"events":                 func(url string) string { return events(t, url) },
		"socket": func(url string) string {
			return socket(t, "ws"+strings.TrimPrefix(url, "http")+"/socket")
		},
	} {
		if want, got := do(direct), do(edge); got != want {
			t.Errorf("%s: %.300s through Millrace, %.300s alone", name, got, want)
		}
	}
	browse(t, edge)
}

func events(t *testing.T, url string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	var got strings.Builder
	for range 9 {
		line, _ := lines.ReadString('\n')
		got.WriteString(line)
	}
	return got.String()
}

func socket(t *testing.T, url string) string {
	t.Helper()
	c, _, hs, err := ws.Dialer{Protocols: []string{"other", "echo"}}.Dial(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	var got strings.Builder
	got.WriteString("protocol " + hs.Protocol)
	for _, size := range []int{0, 5, 70_000, 1 << 20} {
		if err := wsutil.WriteClientText(c, bytes.Repeat([]byte("x"), size)); err != nil {
			t.Fatal(err)
		}
		b, op, err := wsutil.ReadServerData(c)
		fmt.Fprintf(&got, "; %d bytes of %d, %v", len(b), op, err)
	}
	_ = ws.WriteFrame(c, ws.MaskFrame(ws.NewCloseFrame(ws.NewCloseFrameBody(4003, "bye"))))
	_, _, err = wsutil.ReadServerData(c)
	return got.String() + "; " + err.Error()
}

// browse opens the page in a real browser. The page reports to the application what it saw.
func browse(t *testing.T, edge string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	browser := exec.CommandContext(ctx, "chromium", "--headless=new", "--no-sandbox", "--disable-gpu",
		"--disable-dev-shm-usage", "--no-first-run",
		"--user-data-dir="+browserProfile(t), edge+"/")
	if err := browser.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); _ = browser.Wait() }()
	var seen struct {
		Results []struct {
			Socket, Protocol, Event string
			Code                    int
			Clean                   bool
		}
		Closed struct{ Events, Sockets int }
	}
	eventually(t, "the browser has reported, and its connections have ended at the application", func() bool {
		resp, err := http.Get(edge + "/result")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return json.NewDecoder(resp.Body).Decode(&seen) == nil && len(seen.Results) > 0 && seen.Closed.Events >= 3 &&
			seen.Closed.Sockets >= 3
	})
	if r := seen.Results[0]; r.Socket != "hello from a browser" || r.Protocol != "echo" || r.Code != 4002 || !r.Clean ||
		r.Event != "event 5" {
		t.Errorf("the browser saw %+v", r)
	}
}

// TestNodeStreams: the JavaScript example member streams bodies in both directions and keeps a WebSocket open.
func TestNodeStreams(t *testing.T) {
	n := startNode(t, build(t, "./embedded/millrace"))
	start(t, nodeMember, []string{"NATS_URL=" + n.client}, "node", "files.js")
	defer http.DefaultClient.CloseIdleConnections()
	eventually(t, "the member answers", func() bool {
		a, err := n.call("GET", "/files/1", "")
		return err == nil && a.status == 200
	})
	size, before := streamMiB()<<20, memory(t, n.pid, "VmRSS:")
	pattern := io.LimitReader(&repeat{text: []byte("millrace")}, size)
	if got, want := ask(t, "GET", fmt.Sprint(n.edge, "/files/", size), "", nil),
		fmt.Sprintf("200 %d %s", size, hashed(pattern)); got != want {
		t.Errorf("download: %s, want %s", got, want)
	}
	for _, upload := range []int64{0, 1000, size} {
		var up struct {
			Length int64
			SHA256 string
		}
		body := io.MultiReader(noise(upload)) // without a known length
		if err := json.Unmarshal([]byte(ask(t, "PUT", n.edge+"/files", "", body)), &up); err != nil ||
			up.Length != upload || up.SHA256 != hashed(noise(upload)) {
			t.Errorf("upload of %d bytes: %+v, %v", upload, up, err)
		}
	}
	grown := memory(t, n.pid, "VmHWM:") - before
	if t.Logf("%d MiB down and up: the node's memory grew by %d MiB", size>>20, grown); grown > 96 {
		t.Errorf("the node's memory grew by %d MiB", grown)
	}
	c, _, _, err := ws.Dial(t.Context(), "ws"+strings.TrimPrefix(n.edge, "http")+"/files")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	for _, message := range []string{"", "hello", strings.Repeat("x", 60_000)} {
		if err := wsutil.WriteClientText(c, []byte(message)); err != nil {
			t.Fatal(err)
		}
		if got, err := wsutil.ReadServerText(c); err != nil || string(got) != message {
			t.Errorf("the socket answered %.20q, %v", got, err)
		}
	}
}

// memory returns a size from a process's status file in MiB.
func memory(t *testing.T, pid int, field string) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), field)
	kib, err := strconv.Atoi(strings.Fields(after)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib / 1024
}

// repeat reads a text again and again.
type repeat struct {
	text []byte
	at   int
}

func (r *repeat) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = r.text[r.at]
		r.at = (r.at + 1) % len(r.text)
	}
	return len(p), nil
}
