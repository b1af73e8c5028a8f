package site_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"millrace/edge/edgetest"
	"millrace/edge/exchange"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
	"millrace/node/site"
)

// startLarge starts a rig with one file of n bytes, and gives that.
func startLarge(t *testing.T, n int, change ...func(*edgetest.Config)) (*edgetest.Rig, *edgetest.SiteFile, string) {
	t.Helper()
	content := digits(n)
	r, s := start(t, edgetest.Folder{"/large.bin": content}, site.Options{}, change...)
	return r, s.Content(node.DigestOf([]byte(content))), content
}

// A hundred clients read one file at once, from one descriptor and in little memory.
func TestManyReadersOfALargeFile(t *testing.T) {
	r, f, content := startLarge(t, 8<<20)
	want := sha256.Sum256([]byte(content))
	var wait sync.WaitGroup
	for range 100 {
		wait.Go(func() {
			resp, err := http.Get(r.URL + "/large.bin")
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			h := sha256.New()
			if n, err := io.Copy(h, resp.Body); err != nil || [32]byte(h.Sum(nil)) != want {
				t.Errorf("after %d bytes: %v", n, err)
			}
		})
	}
	wait.Wait()
	nodetest.Eventually(t, "nobody holds the file", func() bool { return f.Open.Load() == 0 })
	if f.Bytes() != nil || f.Bads.Load() != 0 {
		t.Error("the file is in memory, or counts as bad")
	}
}

// A client that reads slowly gets all of it; one that stops reading is given up after the write time-out; one that goes
// away midway leaves nothing open.
func TestClientsOfALargeFile(t *testing.T) {
	r, f, content := startLarge(t, 32<<20, func(c *edgetest.Config) {
		c.Edge = func(e *node.Edge) { e.WriteTimeout = node.Duration(time.Second) }
	})
	slow, stops, leaves := r.Dial(t), r.Dial(t), r.Dial(t)
	for _, c := range []net.Conn{slow, stops, leaves} {
		_ = c.(*net.TCPConn).SetReadBuffer(64 << 10)
		if _, err := io.WriteString(c, edgetest.RequestHead("GET", "/large.bin", nil)); err != nil {
			t.Fatal(err)
		}
	}
	nodetest.Eventually(t, "all are being answered", func() bool { return f.Open.Load() == 3 })
	_ = leaves.(*net.TCPConn).SetLinger(0)
	_ = leaves.Close()
	nodetest.Eventually(t, "the one that stops reading is given up", func() bool {
		_, _ = io.CopyN(io.Discard, slow, 0)
		return f.Open.Load() <= 2
	})
	resp, err := http.ReadResponse(bufio.NewReaderSize(slow, 32<<10), nil)
	if err != nil {
		t.Fatal(err)
	}
	begun, got := time.Now(), &bytes.Buffer{}
	for {
		if _, err = io.CopyN(got, resp.Body, 512<<10); err != nil {
			break
		}
		<-time.After(40 * time.Millisecond) // this is what a slow client does
	}
	if took := time.Since(begun); !errors.Is(err, io.EOF) || got.String() != content || took < time.Second {
		t.Errorf("the slow client got %d bytes in %s: %v", got.Len(), took, err)
	}
	if n, err := io.Copy(io.Discard, stops); err == nil || n >= 32<<20 {
		t.Errorf("the client that stopped reading got %d bytes: %v", n, err)
	}
	nodetest.Eventually(t, "nobody holds the file", func() bool { return f.Open.Load() == 0 })
}

// A file that is cut short while it is sent, or was before, never looks whole, and is reported; so with several ranges,
// and with a limit that holds a place as long as the response lasts.
func TestShortFile(t *testing.T) {
	place := edgetest.InFlight(10)
	for name, c := range map[string]struct {
		header string
		limit  []node.Limit
	}{
		"whole": {}, "range": {header: "Range: bytes=10-\r\n"}, "ranges": {header: "Range: bytes=0-1,10-\r\n"},
		"place": {limit: []node.Limit{place}},
	} {
		t.Run(name, func(t *testing.T) {
			r, f, content := startLarge(t, 24<<20, func(cfg *edgetest.Config) {
				cfg.Limits = &edgetest.LimitsConfig{}
				cfg.Routes[0].Name, cfg.Routes[0].Limit = "r", c.limit
			})
			conn := r.Dial(t)
			defer conn.Close()
			_ = conn.(*net.TCPConn).SetReadBuffer(64 << 10)
			_, _ = io.WriteString(conn, "GET /large.bin HTTP/1.1\r\nHost: h\r\n"+c.header+"\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil || resp.StatusCode >= 300 {
				t.Fatal(resp, err)
			}
			if err := os.Truncate(f.Path, 20<<20); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			if err == nil || len(got) >= len(content) || (name == "whole" && !strings.HasPrefix(content, string(got))) {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
			nodetest.Eventually(t, "the file is reported and closed", func() bool {
				return f.Bads.Load() == 1 && f.Open.Load() == 0
			})
		})
	}
}

// A file that this node doesn't have yet is sent as it comes, with its length; if it doesn't come, the response breaks
// off, and if it can't be had at all, it is an error.
func TestFileThatComes(t *testing.T) {
	r, f, content := startLarge(t, 1<<20)
	f.Away.Store(true)
	for header, want := range map[string]string{"": content, "bytes=5-700000": content[5:700_001]} {
		resp, body := ask(t, r, "GET", "/large.bin", "Range", header)
		if body != want || resp.ContentLength != int64(len(want)) {
			t.Errorf("%s: got %d, %d bytes of %d", header, resp.StatusCode, len(body), resp.ContentLength)
		}
	}
	f.Stops.Store(300_000)
	resp, err := http.Get(r.URL + "/large.bin")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(resp.Body); err == nil || len(got) > 300_000 {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	_ = resp.Body.Close()
	f.Waits.Store(true)
	c := r.OpenBody(t, "/large.bin")
	c.Want(content[:300_000])
	_ = c.Conn.Close()
	nodetest.Eventually(t, "the client's going away ends the stream", func() bool { return f.Open.Load() == 0 })
	if err := os.Remove(f.Path); err != nil {
		t.Fatal(err)
	}
	if resp, body := ask(
		t,
		r,
		"GET",
		"/large.bin",
	); resp.StatusCode != 503 ||
		!strings.Contains(body, `"unavailable"`) {
		t.Errorf("got %d %s", resp.StatusCode, body)
	}
	if resp, body := ask(
		t,
		r,
		"HEAD",
		"/large.bin",
	); resp.StatusCode != 200 || resp.ContentLength != 1<<20 ||
		body != "" {
		t.Errorf("HEAD: got %d %s", resp.StatusCode, body)
	}
}

// A small file for which there is no room in memory is served all the same, each time from the disk.
func TestNoRoomInMemory(t *testing.T) {
	r, s := start(t, edgetest.Folder{"/a.txt": "content"}, site.Options{})
	f := s.Content(node.DigestOf([]byte("content")))
	f.NoRoom.Store(true)
	for range 3 {
		if resp, body := ask(t, r, "GET", "/a.txt"); resp.StatusCode != 200 || body != "content" {
			t.Errorf("got %d %s", resp.StatusCode, body)
		}
	}
}

// Whoever doesn't know files reads a large one as any stream.
func TestFileAsAStream(t *testing.T) {
	r, f, content := startLarge(t, 200_001)
	x := &exchange.Exchange{}
	x.Method, x.Target, x.Header, x.Scheme = "GET", "/large.bin", edgetest.Fields("Host", "h"), "http"
	resp := r.Serve(context.Background(), x)
	got, err := io.ReadAll(mesh.NewReader(resp.Stream))
	if err != nil || string(got) != content {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	x.CopyStored(resp)
	if resp.Header.Get("Millrace-Deploy") == "" || resp.Header.Get("X-Request-Id") == "" || x.Outcome.Stored != nil {
		t.Errorf("got %v", resp.Header)
	}
	_ = resp.Stream.Close()
	_ = resp.Stream.Close()
	if f.Open.Load() != 0 {
		t.Error("the file is open")
	}
}

// A node that shuts down sends a large file to its end.
func TestShutdownSendsFilesToTheirEnd(t *testing.T) {
	r, f, content := startLarge(t, 16<<20)
	conn := r.Dial(t)
	defer conn.Close()
	_ = conn.(*net.TCPConn).SetReadBuffer(64 << 10)
	if _, err := io.WriteString(conn, edgetest.RequestHead("GET", "/large.bin", nil)); err != nil {
		t.Fatal(err)
	}
	nodetest.Eventually(t, "the file is being sent", func() bool { return f.Open.Load() == 1 })
	done := make(chan error, 1)
	go func() { done <- r.Shutdown(context.Background()) }()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(resp.Body); err != nil || string(got) != content {
		t.Errorf("the client got %d bytes: %v", len(got), err)
	}
	_ = conn.Close()
	if err := <-done; err != nil || f.Open.Load() != 0 {
		t.Errorf("%v; the file is open for %d", err, f.Open.Load())
	}
}
