//go:build system

package chaos_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"millrace/embedded/publish"
)

// siteRoutes serve the site www at every path.
const siteRoutes = `
		routes:
		  - path: /*
		    to: site:www
		`

// siteFlips publishes one deploy after another while clients read a page on one node and the script that it names on
// another. Every page must be whole, with its script, and no connection may go back to an earlier deploy.
//
// The scripts' names hold a hash, so that each node keeps those of earlier deploys and has those of the next one. A
// second run has names without one: there scripts must be missed, or the check would find nothing.
func siteFlips(t *testing.T, long bool) (seen string) {
	t.Helper()
	flips, requests := 10, int64(20_000)
	if long {
		flips, requests = 100, 1_000_000
	}
	c := startThree(t, siteRoutes)
	good := flipUnderLoad(t, c, "a", flips, requests, hashedScript)
	if good.wrong.Load() > 0 {
		t.Errorf("%d of %d requests were answered wrongly: %s", good.wrong.Load(), good.count.Load(), good.firstWrong())
	}
	bad := flipUnderLoad(t, c, "b", 10, 20_000, plainScript)
	if bad.wrong.Load() == 0 {
		t.Errorf("the check finds nothing wrong with scripts whose names hold no hash, in %d requests", bad.count.Load())
	}
	return fmt.Sprintf("%d requests on three nodes during %d flips: %d wrong; a flip took p50 %s, p99 %s on all nodes; "+
		"without hashes in names %d of %d were wrong", good.count.Load(), flips, good.wrong.Load(),
		percentile(good.took, 50), percentile(good.took, 99), bad.wrong.Load(), bad.count.Load())
}

// hashedScript and plainScript are the paths of the script of deploy n.
func hashedScript(n int) string {
	sum := sha256.Sum256([]byte(fmt.Sprint(n)))
	return "/assets/app-" + hex.EncodeToString(sum[:])[:16] + ".js"
}

func plainScript(n int) string { return fmt.Sprintf("/app/number-%d.js", n) }

// page and script are the files of deploy n.
func page(n int, script string) string {
	return fmt.Sprintf("<!doctype html>%d %s %s</html>", n, script, strings.Repeat("x", 2000))
}

func script(n int) string { return fmt.Sprintf("// script of %d\n%s", n, strings.Repeat("y", 20_000)) }

// writeDeploy writes the folder of deploy n, with files that all deploys share.
func writeDeploy(t *testing.T, dir string, n int, scriptPath string) {
	t.Helper()
	files := map[string]string{"/index.html": page(n, scriptPath), scriptPath: script(n)}
	for i := range 20 {
		files[fmt.Sprintf("/shared/%d.txt", i)] = strings.Repeat(fmt.Sprint(i), 5000)
	}
	writeFiles(t, dir, files)
}

// writeFiles makes dir a folder of these files and no others.
func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for path, text := range files {
		file := filepath.Join(dir, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// publishTo publishes a folder to the site www through a node.
func publishTo(ctx context.Context, n *nodeProcess, dir string) (*publish.Result, error) {
	client, err := publish.NewClient(publish.Config{URL: n.admin})
	if err != nil {
		return nil, err
	}
	defer client.Close()
	folder, err := publish.Scan(ctx, dir, publish.ScanOptions{})
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	return client.Publish(ctx, folder, publish.Request{Site: "www"})
}

// flipLoad is clients that read pages and scripts until stop.
type flipLoad struct {
	nodes        []*nodeProcess
	count, wrong atomic.Int64
	first        atomic.Pointer[string] // what was wrong first
	took         []time.Duration        // of the flips
	stop         chan struct{}
	running      sync.WaitGroup
}

func (l *flipLoad) firstWrong() string {
	if s := l.first.Load(); s != nil {
		return *s
	}
	return ""
}

func (l *flipLoad) fail(format string, args ...any) {
	l.wrong.Add(1)
	text := fmt.Sprintf(format, args...)
	l.first.CompareAndSwap(nil, &text)
}

// flipUnderLoad publishes deploys through the nodes in turn, evenly over so many requests.
func flipUnderLoad(
	t *testing.T, c *cluster, kind string, flips int, requests int64, scriptPath func(int) string,
) *flipLoad {
	t.Helper()
	dir := filepath.Join(t.TempDir(), kind)
	flip := func(n int) time.Duration {
		writeDeploy(t, dir, n, scriptPath(n))
		done, err := publishTo(t.Context(), c.nodes[n%len(c.nodes)], dir)
		if err != nil || len(done.Behind) > 0 {
			t.Fatalf("publish %d: %+v, %v", n, done, err)
		}
		return time.Duration(done.TookMS * float64(time.Millisecond))
	}
	flip(0)
	l := &flipLoad{nodes: c.nodes[:], stop: make(chan struct{})}
	const clients = 16
	for range clients {
		l.running.Go(l.read)
	}
	for n := range flips {
		for l.count.Load() < requests*int64(n)/int64(flips) && t.Context().Err() == nil {
			<-time.After(time.Millisecond)
		}
		l.took = append(l.took, flip(n+1))
	}
	for l.count.Load() < requests && t.Context().Err() == nil {
		<-time.After(time.Millisecond)
	}
	close(l.stop)
	l.running.Wait()
	return l
}

// read reads a page on one node and its script on another, again and again, on one connection to each node.
func (l *flipLoad) read() {
	conns := make([]*keptConn, len(l.nodes))
	for i, n := range l.nodes {
		conns[i] = &keptConn{address: strings.TrimPrefix(n.edge, "http://")}
		defer conns[i].close()
	}
	for {
		select {
		case <-l.stop:
			return
		default:
		}
		at := rand.IntN(len(conns))
		l.check(conns[at], conns[(at+1+rand.IntN(len(conns)-1))%len(conns)])
	}
}

func (l *flipLoad) check(first, second *keptConn) {
	l.count.Add(2)
	status, body, err := first.get("/")
	var n int
	var path string
	if _, scanErr := fmt.Sscanf(body, "<!doctype html>%d %s", &n, &path); err != nil || status != http.StatusOK ||
		scanErr != nil || body != page(n, path) {
		l.fail("a page: %d %.80q, %v", status, body, err)
		return
	}
	if n < first.newest {
		l.fail("a connection went back from %d to %d", first.newest, n)
	}
	first.newest = n
	status, body, err = second.get(path)
	if err != nil || status != http.StatusOK || body != script(n) {
		l.fail("script %s of %d: %d %.80q, %v", path, n, status, body, err)
	}
}

// keptConn is one connection of a client, opened again when it has ended.
type keptConn struct {
	address string
	conn    net.Conn
	in      *bufio.Reader
	newest  int // the newest deploy that was seen on it
}

func (k *keptConn) close() {
	if k.conn != nil {
		_ = k.conn.Close()
		k.conn = nil
	}
}

func (k *keptConn) get(path string) (status int, body string, err error) {
	if k.conn == nil {
		if k.conn, err = net.DialTimeout("tcp", k.address, wait); err != nil {
			k.conn = nil
			return 0, "", err
		}
		k.in, k.newest = bufio.NewReader(k.conn), 0
	}
	_ = k.conn.SetDeadline(time.Now().Add(wait))
	if _, err = fmt.Fprintf(k.conn, "GET %s HTTP/1.1\r\nHost: www\r\n\r\n", path); err != nil {
		k.close()
		return 0, "", err
	}
	resp, err := http.ReadResponse(k.in, nil)
	if err != nil {
		k.close()
		return 0, "", err
	}
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.Close {
		k.close()
	}
	return resp.StatusCode, string(data), err
}
