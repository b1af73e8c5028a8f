package bench_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"millrace/node/nodetest"
)

// sitePeers returns all servers of files, Millrace first. Each serves the files of a folder.
func sitePeers() []peer {
	return []peer{
		{name: "millrace", start: func(tb testing.TB, folder string) (server, error) {
			tb.Helper()
			return server{spawn(tb, "sitegateway", tb.TempDir(), folder)}, nil
		}},
		{name: "nginx", start: func(tb testing.TB, folder string) (server, error) {
			tb.Helper()
			return nginxFiles(tb, folder, "sendfile on; tcp_nopush on;")
		}},
		{name: "nginx-read", start: func(tb testing.TB, folder string) (server, error) {
			tb.Helper()
			return nginxFiles(tb, folder, "sendfile off; output_buffers 1 128k;")
		}},
		{name: "caddy", start: caddyFiles},
	}
}

func nginxFiles(tb testing.TB, folder, how string) (server, error) {
	tb.Helper()
	dir, addr := tb.TempDir(), nodetest.FreePorts(tb, 1)[0]
	return launch(
		tb,
		dir,
		addr,
		fmt.Sprintf(`daemon off; pid %[1]s/pid; error_log %[1]s/error.log; worker_processes 1; user root;
events { worker_connections 1024; }
http {
  access_log off; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f;
  uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s; keepalive_requests 100000000; tcp_nodelay on;
  open_file_cache max=1000 inactive=60s; open_file_cache_valid 60s; %[4]s
  server { listen %[2]s; root %[3]s; }
}
`, dir, addr, folder, how),
		"nginx",
		"-p",
		dir,
		"-c",
	)
}

func caddyFiles(tb testing.TB, folder string) (server, error) {
	tb.Helper()
	dir, addr := tb.TempDir(), nodetest.FreePorts(tb, 1)[0]
	return launch(tb, dir, addr, fmt.Sprintf("{\n  admin off\n  auto_https off\n  storage file_system %s\n}\n"+
		"http://:%s {\n  bind 127.0.0.1\n  root * %s\n  file_server\n}\n", dir,
		addr[strings.LastIndexByte(addr, ':')+1:],
		folder), "caddy", "run", "--adapter", "caddyfile", "--config")
}

// siteFile is a file that is asked for over so many connections. What it costs is told for each request, or for each
// MiB.
type siteFile struct {
	size, connections int
	perMiB            bool
}

func (f siteFile) name() string { return strconv.Itoa(f.size>>10) + "KiB" }

var siteFiles = []siteFile{
	{2 << 10, connections, false},
	{20 << 10, connections, false},
	{64 << 10, connections, false},
	{200 << 10, 32, true},
	{10 << 20, 8, true},
}

// BenchmarkSite compares the CPU time that files of several sizes cost: Millrace, nginx with and without sendfile, and
// Caddy, as far as they are installed. wrk sends as much as each can answer, in turns of SITE_SECONDS (1), SITE_ROUNDS
// (1) of each. The benchmark needs wrk; it runs once, whatever -benchtime.
//
//	SITE_SECONDS=3 SITE_ROUNDS=5 go test ./embedded/bench -run '^$' -bench Site -benchtime 1x
func BenchmarkSite(b *testing.B) {
	if _, err := exec.LookPath("wrk"); err != nil {
		b.Skip("wrk isn't installed: ", err)
	}
	folder := b.TempDir()
	if err := os.Chmod(folder, 0o755); err != nil {
		b.Fatal(err)
	}
	for _, f := range siteFiles {
		if err := os.WriteFile(filepath.Join(folder, f.name()+".bin"), cachedBody(f.size), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	systems := contenders(b, sitePeers(), folder)
	seconds, rounds := number(b, "SITE_SECONDS", 1), number(b, "SITE_ROUNDS", 1)
	b.ResetTimer()
	for _, f := range siteFiles {
		costs := make([][]float64, len(systems))
		for _, c := range systems {
			checkFile(b, c.url, f)
		}
		for range rounds {
			for i, c := range systems {
				costs[i] = append(costs[i], wrk(b, c.server, f, seconds))
			}
		}
		reportFile(b, systems, f, costs)
	}
	b.ReportMetric(0, "ns/op") // the time of all servers together is meaningless
}

// number reads a number from the environment.
func number(tb testing.TB, name string, standard int) int {
	tb.Helper()
	text := os.Getenv(name)
	if text == "" {
		return standard
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

// checkFile checks that a server sends the file.
func checkFile(tb testing.TB, url string, f siteFile) {
	tb.Helper()
	resp, err := http.Get(url + "/" + f.name() + ".bin")
	if err != nil {
		tb.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Equal(got, cachedBody(f.size)) {
		tb.Fatalf("%s: %s: %d, %d bytes, %v", url, f.name(), resp.StatusCode, len(got), err)
	}
}

// wrkReport makes wrk write requests, bytes and errors.
const wrkReport = `done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("REPORT %d %d %d\n", summary.requests, summary.bytes, e.connect + e.read + e.write + e.status))
end
`

// wrk asks for the file for some seconds and returns the CPU time in microseconds that each request, or each MiB, cost.
func wrk(tb testing.TB, s server, f siteFile, seconds int) float64 {
	tb.Helper()
	script := filepath.Join(tb.TempDir(), "report.lua")
	if err := os.WriteFile(script, []byte(wrkReport), 0o600); err != nil {
		tb.Fatal(err)
	}
	args := []string{"-t1", "-c" + strconv.Itoa(f.connections), "-d" + strconv.Itoa(seconds) + "s", "-s", script}
	for _, line := range strings.Split(strings.TrimSpace(requestHeader), "\r\n")[1:] { // without Host
		args = append(args, "-H", line)
	}
	used := s.cpu(tb)
	out, err := exec.CommandContext(tb.Context(), "wrk", append(args, s.url+"/"+f.name()+".bin")...).Output()
	used = s.cpu(tb) - used
	_, report, _ := strings.Cut(string(out), "REPORT ")
	var requests, sent, failed int64
	if _, scanned := fmt.Sscan(report, &requests, &sent, &failed); err != nil || scanned != nil || failed > 0 {
		tb.Fatalf("wrk: %v, %v: %s", err, scanned, out)
	}
	if f.perMiB {
		return micros(used) / (float64(sent) / (1 << 20))
	}
	return micros(used) / float64(requests)
}

// reportFile reports the medians of each server, and Millrace's relative to them.
func reportFile(b *testing.B, systems []*competitor, f siteFile, costs [][]float64) {
	b.Helper()
	var line strings.Builder
	unit := "us/request"
	if f.perMiB {
		unit = "us/MiB"
	}
	var first float64
	for i, c := range systems {
		slices.Sort(costs[i])
		median := costs[i][len(costs[i])/2]
		if i == 0 {
			first = median
		}
		fmt.Fprintf(&line, "  %s %.1f (%.1f to %.1f) %.2fx", c.name, median, costs[i][0],
			costs[i][len(costs[i])-1], first/median)
		b.ReportMetric(median, c.name+"-"+f.name()+"-us")
	}
	b.Logf("%s, %s:%s", f.name(), unit, line.String())
}
