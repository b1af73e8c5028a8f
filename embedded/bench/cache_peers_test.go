package bench_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"millrace/node/nodetest"
)

// peer is a server to compare with.
type peer struct {
	name  string
	start func(tb testing.TB, origin string) (server, error) // the error says why it isn't available here
}

// cachePeers returns all caching servers, Millrace first.
func cachePeers() []peer {
	return []peer{
		{name: "millrace", start: millraceCache},
		{name: "nginx", start: nginxCache},
		{name: "varnish", start: varnishCache},
	}
}

// server is a peer's process, with its children.
type server struct{ child }

// cpu returns the processor time that the process and its descendants have used.
func (s server) cpu(tb testing.TB) (sum time.Duration) {
	tb.Helper()
	below := childProcesses(tb)
	for todo := []int{s.pid}; len(todo) > 0; todo = todo[1:] {
		sum += child{pid: todo[0]}.cpu(tb)
		todo = append(todo, below[todo[0]]...)
	}
	return sum
}

// childProcesses returns the children of each process of the machine.
func childProcesses(tb testing.TB) map[int][]int {
	tb.Helper()
	out := map[int][]int{}
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		tb.Fatal(err)
	}
	for _, file := range files {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // the process has ended; cpu fails if it was one of ours
		}
		pid, err1 := strconv.Atoi(strings.Split(file, "/")[2])
		parent, err2 := strconv.Atoi(strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))[1])
		if err1 != nil || err2 != nil {
			tb.Fatalf("%s holds %q", file, stat)
		}
		out[parent] = append(out[parent], pid)
	}
	return out
}

func millraceCache(tb testing.TB, origin string) (server, error) {
	tb.Helper()
	return server{spawn(tb, "cachegateway", tb.TempDir(), origin)}, nil
}

// proxyPeers returns all proxies, Millrace first.
func proxyPeers() []peer {
	return []peer{
		{name: "millrace", start: millraceProxy},
		{name: "nginx", start: nginxProxy},
		{name: "caddy", start: caddyProxy},
	}
}

func millraceProxy(tb testing.TB, origin string) (server, error) {
	tb.Helper()
	return server{spawn(tb, "proxygateway", tb.TempDir(), origin)}, nil
}

func nginxProxy(tb testing.TB, origin string) (server, error) {
	tb.Helper()
	return nginxServer(tb, origin, "")
}

func caddyProxy(tb testing.TB, origin string) (server, error) {
	tb.Helper()
	dir, addr := tb.TempDir(), nodetest.FreePorts(tb, 1)[0]
	return launch(tb, dir, addr,
		fmt.Sprintf("{\n  admin off\n  auto_https off\n  storage file_system %s\n}\nhttp://:%s {\n  bind 127.0.0.1\n  "+
			"reverse_proxy %s\n}\n",
			dir, addr[strings.LastIndexByte(addr, ':')+1:], strings.TrimPrefix(origin, "http://")), "caddy", "run",
		"--adapter", "caddyfile", "--config")
}

// nginxCache stores responses in files, which it keeps open. It has one worker.
func nginxCache(tb testing.TB, origin string) (server, error) {
	tb.Helper()
	return nginxServer(tb, origin, "proxy_cache hits; proxy_cache_valid 200 1h;")
}

// nginxServer proxies all requests, with the given rules.
func nginxServer(tb testing.TB, origin, rules string) (server, error) {
	tb.Helper()
	dir, addr := tb.TempDir(), nodetest.FreePorts(tb, 1)[0]
	return launch(tb, dir, addr, fmt.Sprintf(`daemon off; pid %[1]s/pid; error_log %[1]s/error.log; worker_processes 1; user root;
events { worker_connections 1024; }
http {
  access_log off; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f;
  uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  open_file_cache max=1000 inactive=60s; sendfile off; output_buffers 1 128k; tcp_nodelay on;
  keepalive_requests 1000000;
  proxy_cache_path %[1]s/cache keys_zone=hits:10m use_temp_path=off;
  upstream app { server %[2]s; keepalive 16; }
  server {
    listen %[3]s;
    location / { proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; %[4]s }
  }
}
`, dir, strings.TrimPrefix(origin, "http://"), addr, rules), "nginx", "-p", dir, "-c")
}

// varnishCache stores responses in memory. The CPU time of its manager and of its child, the cache, both count.
func varnishCache(tb testing.TB, origin string) (server, error) {
	tb.Helper()
	host, port, err := net.SplitHostPort(strings.TrimPrefix(origin, "http://"))
	if err != nil {
		return server{}, err
	}
	dir, addr := tb.TempDir(), nodetest.FreePorts(tb, 1)[0]
	return launch(tb, dir, addr, fmt.Sprintf(`vcl 4.1;
backend origin { .host = %q; .port = %q; }
sub vcl_recv {
  if (req.method == "GET") {
    unset req.http.Cookie; # a request with a cookie isn't looked up otherwise
    return (hash);
  }
}
`, host, port), "varnishd", "-F", "-j", "none", "-a", addr, "-s", "malloc,256m", "-T", "none", "-n",
		filepath.Join(dir, "work"), "-f")
}

// launch runs a command until the test ends, and waits until it answers. The last argument becomes the path of a file
// with the configuration.
func launch(tb testing.TB, dir, addr, config, name string, args ...string) (server, error) {
	tb.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		return server{}, err
	}
	file := filepath.Join(dir, "config")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return server{}, err
	}
	said, err := os.Create(filepath.Join(dir, "said")) // not a pipe: the command's children would hold it open
	if err != nil {
		return server{}, err
	}
	defer said.Close()
	cmd := exec.CommandContext(context.WithoutCancel(tb.Context()), path, append(args, file)...)
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		return server{}, err
	}
	ended := make(chan struct{}) // closed when the command has ended
	go func() { defer close(ended); _ = cmd.Wait() }()
	tb.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGTERM); <-ended })
	answers := false
	nodetest.Eventually(tb, name+" answers or ends", func() bool {
		select {
		case <-ended:
			return true
		default:
		}
		c, err := net.Dial("tcp", addr)
		if err == nil {
			answers = true
			_ = c.Close()
		}
		return answers
	})
	if !answers {
		text, _ := os.ReadFile(said.Name())
		oneLine := strings.Join(strings.Fields(string(text)), " ") // a benchmark's log is cut after ten
		return server{}, fmt.Errorf("%s ended: %.300s", name, oneLine)
	}
	return server{child{cmd.Process.Pid, "http://" + addr}}, nil
}
