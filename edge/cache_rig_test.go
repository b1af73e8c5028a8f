package edge_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dunglas/httpsfv"

	"millrace/edge"
	"millrace/edge/edgetest"
	"millrace/embedded/natsserver"
	"millrace/embedded/natsserver/natsservertest"
	"millrace/kvcache"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

// cacheRig is an edge that caches what the service "origin" answers.
type cacheRig struct {
	*edge.Server

	*origin

	cache *kvcache.Cache
	nats  *natsserver.Server // of the cache
	conn  *mesh.Conn
	addr  string
	log   *nodetest.Output
	set   *cacheSetup
	away  func() // ends the origin
}

// cacheSetup is what tests change of it.
type cacheSetup struct {
	edge   node.Edge
	store  node.CacheStore
	alone  bool
	apart  bool         // the cache has a NATS of its own
	slow   *slowServer  // likewise, whose answers may take a while
	routes []node.Route // of the origin's service, unless they say otherwise
}

// startCache starts it with one route for all paths, changed by cache.
func startCache(tb testing.TB, cache func(*node.Cache), change ...func(*cacheSetup)) *cacheRig {
	tb.Helper()
	set := cacheSetup{
		edge: node.Default().Edge, store: node.Default().Cache, alone: true,
		routes: []node.Route{cachedRoute("/*", cache)},
	}
	set.edge.Listen, set.store.Memory, set.store.Disk = "127.0.0.1:0", 64*node.MiB, 64*node.MiB
	for _, f := range change {
		f(&set)
	}
	o := &origin{answers: map[string]answer{}, counts: map[string]int{}, requests: map[string]*mesh.Request{}}
	r := &cacheRig{origin: o, log: &nodetest.Output{}, set: &set}
	r.nats = natsservertest.Start(tb)
	r.conn = natsservertest.Connect(tb, r.nats)
	service, err := r.conn.NewService(mesh.ServiceConfig{
		Destination: r.conn.Service("origin"),
		Handler:     mesh.HandlerFunc(r.serve), Limit: 1000,
	})
	if err == nil {
		err = service.Open(tb.Context())
	}
	if err != nil {
		tb.Fatal(err)
	}
	r.away = func() { _ = service.Close() }
	tb.Cleanup(r.away)
	store := r.conn
	switch {
	case set.slow != nil:
		r.nats = natsservertest.Start(tb)
		set.slow.Server = r.nats
		store = natsservertest.Connect(tb, r.nats, func(c *mesh.Config) { c.InProcess = set.slow })
	case set.apart:
		r.nats = natsservertest.Start(tb)
		store = natsservertest.Connect(tb, r.nats)
	}
	r.openCache(tb, store)
	return r
}

// openCache makes cache and edge, whose memory is empty.
func (r *cacheRig) openCache(tb testing.TB, store *mesh.Conn) {
	tb.Helper()
	cache, err := kvcache.New(kvcache.Config{
		Node: "abc", Name: "n1", NATS: store.NATS(), Replicas: 1, Alone: r.set.alone,
		MemoryBytes: int64(r.set.store.Memory), BucketBytes: int64(r.set.store.Disk), Log: nodetest.Discard(),
	})
	if err == nil {
		err = cache.Open(tb.Context())
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = cache.Close() })
	r.cache = cache
	r.listen(tb, r.set)
	nodetest.Eventually(tb, "the purges are followed", r.cache.Leased)
}

// restart begins anew with what the bucket has, once that many entries have been written to it.
func (r *cacheRig) restart(tb testing.TB, written uint64) {
	tb.Helper()
	nodetest.Eventually(tb, "the bucket has all", func() bool { return r.cache.Stats().BucketWritten >= written })
	if err := r.Close(); err != nil {
		tb.Error(err)
	}
	_ = r.cache.Close()
	r.openCache(tb, r.conn)
	nodetest.Eventually(tb, "the bucket is there", func() bool { return r.cache.Stats().BucketReady })
}

func (r *cacheRig) listen(tb testing.TB, set *cacheSetup) {
	tb.Helper()
	s, err := edge.New(edge.Config{
		Node: "n1", ID: "abc", Edge: set.edge, Routes: set.routes, Mesh: r.conn,
		Cache: r.cache, Store: set.store, Log: nodetest.Discard(),
	})
	if err == nil {
		err = s.Open(tb.Context())
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil { // which may be for the second time
			tb.Error(err)
		}
	})
	r.Server, r.addr = s, s.Addr().String()
}

// cachedRoute is a route to the origin with the standard cache, changed.
func cachedRoute(path string, change func(*node.Cache), also ...func(*node.Route)) node.Route {
	r := edgetest.Route("", path, also...)
	r.To.Name = "origin"
	r.Cache = &node.Cache{}
	r.Cache.Defaults()
	if change != nil {
		change(r.Cache)
	}
	return r
}

// answer is what the origin says to the nth request of a path, from 1.
type answer func(r *mesh.Request, n int) *mesh.Response

// origin answers as it is told, and counts.
type origin struct {
	mu       sync.Mutex
	answers  map[string]answer
	counts   map[string]int // by path
	requests map[string]*mesh.Request
}

func (o *origin) serve(_ context.Context, r *mesh.Request) (*mesh.Response, error) {
	path, _, _ := strings.Cut(r.Target, "?")
	o.mu.Lock()
	o.counts[path]++
	n, f := o.counts[path], o.answers[path]
	o.requests[path] = r
	o.mu.Unlock()
	if f == nil {
		return &mesh.Response{Status: 404, Header: fields("Cache-Control", "no-store"), Body: []byte("no such path")},
			nil
	}
	return f(r, n), nil
}

// on sets what the origin answers to a path.
func (o *origin) on(path string, f answer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.answers[path] = f
}

// count is how many requests of the path came.
func (o *origin) count(path string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.counts[path]
}

// last is the newest request of the path.
func (o *origin) last(path string) *mesh.Request {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.requests[path]
}

// always answers every request alike, with fields in turn; %d in body becomes the number of the request.
func always(status int, body string, header ...string) answer {
	return func(_ *mesh.Request, n int) *mesh.Response {
		return &mesh.Response{
			Status: status, Header: fields(header...),
			Body: []byte(strings.ReplaceAll(body, "%d", strconv.Itoa(n))),
		}
	}
}

// inTurn answers the nth request with the nth answer, and all after the last with the last.
func inTurn(list ...answer) answer {
	return func(r *mesh.Request, n int) *mesh.Response { return list[min(n, len(list))-1](r, n) }
}

// seen is a response as a client saw it.
type seen struct {
	*http.Response

	body    string
	broken  error // what ended the body before its time
	interim []*http.Response
	hit     bool // what Cache-Status said
	fwd     string
	status  int64 // fwd-status
	ttl     int64
	hasTTL  bool
	stored  bool
	shared  bool // collapsed
	detail  string
}

func (s *seen) String() string {
	return fmt.Sprintf("%d %q, Cache-Status %q, Age %q", s.StatusCode, short(s.body), s.Header.Get("Cache-Status"),
		s.Header.Get("Age"))
}

func short(s string) string {
	if len(s) > 60 {
		return s[:60] + "..."
	}
	return s
}

// get asks for a path of http://example.test, with header fields in turn.
func (r *cacheRig) get(tb testing.TB, path string, header ...string) *seen {
	tb.Helper()
	return r.ask(tb, "GET", path, "", header...)
}

func (r *cacheRig) ask(tb testing.TB, method, path, body string, header ...string) *seen {
	tb.Helper()
	if body != "" {
		header = append(slices.Clip(header), "Content-Length", strconv.Itoa(len(body)))
	}
	return r.send(tb, method, requestOf(method, path, header)+body)
}

// requestOf writes a request's head, with header fields in turn.
func requestOf(method, path string, header []string) string {
	var b strings.Builder
	b.WriteString(method + " " + path + " HTTP/1.1\r\nHost: example.test\r\n")
	for i := 0; i < len(header); i += 2 {
		b.WriteString(header[i] + ": " + header[i+1] + "\r\n")
	}
	return b.String() + "\r\n"
}

// send sends bytes as they are and reads the response to them.
func (r *cacheRig) send(tb testing.TB, method, request string) *seen {
	tb.Helper()
	c := r.dial(tb)
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		tb.Fatal(err)
	}
	return receive(tb, bufio.NewReader(c), method)
}

func (r *cacheRig) dial(tb testing.TB) net.Conn {
	tb.Helper()
	c, err := (&net.Dialer{}).DialContext(tb.Context(), "tcp", r.addr)
	if err != nil {
		tb.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// receive reads a response with its body and checks what must be true of every one.
func receive(tb testing.TB, from *bufio.Reader, method string) *seen {
	tb.Helper()
	s := &seen{}
	for {
		resp, err := http.ReadResponse(from, &http.Request{Method: method})
		if err != nil {
			tb.Errorf("read the response: %v", err)
			s.Response = &http.Response{Header: http.Header{}}
			return s
		}
		if resp.StatusCode >= 200 {
			s.Response = resp
			break
		}
		s.interim = append(s.interim, resp)
	}
	var b bytes.Buffer
	_, s.broken = io.Copy(&b, s.Body)
	_ = s.Body.Close()
	s.body = b.String()
	s.check(tb)
	return s
}

// check reads Cache-Status (RFC 9211) and looks at what no response may have, or miss.
func (s *seen) check(tb testing.TB) {
	tb.Helper()
	h := s.Header
	if lines := h.Values("Cache-Status"); len(lines) > 0 {
		list, err := httpsfv.UnmarshalList(lines)
		if err != nil || len(list) == 0 {
			tb.Fatalf("Cache-Status %q: %v", lines, err)
		}
		item, ok := list[len(list)-1].(httpsfv.Item) // the nearest cache comes last
		if name, isToken := item.Value.(httpsfv.Token); !ok || !isToken || name != "Millrace" {
			tb.Errorf("Cache-Status %q doesn't end with this cache", lines)
		}
		s.read(tb, item.Params)
	}
	if n := len(h.Values("Date")); n != 1 {
		tb.Errorf("%d Date fields", n)
	}
	if n := len(h.Values("Age")); n > 1 || (s.hit && n == 0) {
		tb.Errorf("%d Age fields with a hit: %t", n, s.hit)
	}
	if len(h.Values("Content-Length")) > 1 {
		tb.Errorf("Content-Length %q", h.Values("Content-Length"))
	}
	for _, name := range []string{"Millrace-CDN-Cache-Control", "Surrogate-Control", "Proxy-Authenticate"} {
		if h.Get(name) != "" {
			tb.Errorf("%s reached a client", name)
		}
	}
}

func (s *seen) read(tb testing.TB, p *httpsfv.Params) {
	tb.Helper()
	for _, name := range p.Names() {
		v, _ := p.Get(name)
		var ok bool
		switch name {
		case "hit":
			s.hit, ok = v.(bool)
		case "stored":
			s.stored, ok = v.(bool)
		case "collapsed":
			s.shared, ok = v.(bool)
		case "ttl":
			s.ttl, ok = v.(int64)
			s.hasTTL = true
		case "fwd-status":
			s.status, ok = v.(int64)
		case "fwd":
			var token httpsfv.Token
			token, ok = v.(httpsfv.Token)
			s.fwd = string(token)
			ok = ok && strings.Contains(" bypass method uri-miss vary-miss miss request stale partial ", " "+s.fwd+" ")
		case "detail":
			switch d := v.(type) {
			case httpsfv.Token:
				s.detail, ok = string(d), true
			case string:
				s.detail, ok = d, true
			}
		case "key":
			_, ok = v.(string)
		}
		if !ok {
			tb.Errorf("Cache-Status %q: parameter %s has a type of its own", s.Header.Values("Cache-Status"), name)
		}
	}
	if s.hit == (s.fwd != "") {
		tb.Errorf("Cache-Status %q: hit and fwd exclude each other (RFC 9211 §2.2)", s.Header.Values("Cache-Status"))
	}
}

// has reports whether the memory has something of a path, without asking for it.
func (r *cacheRig) has(path string) bool {
	var v kvcache.View
	has := r.cache.Get([]byte("Ghttp://example.test"+path), &v)
	v.Release()
	return has
}

// invalidated waits until a path isn't answered from the store: a request that invalidates waits for the log of purges
// for 20 ms at most (kvcache.Patience), and goes on without it.
func (r *cacheRig) invalidated(tb testing.TB, what, path string, header ...string) {
	tb.Helper()
	nodetest.Eventually(tb, what, func() bool { return !r.get(tb, path, header...).hit })
}

// wantHit checks that a response came from the cache.
func (s *seen) wantHit(tb testing.TB, what, body string) {
	tb.Helper()
	if !s.hit || s.body != body || s.broken != nil {
		tb.Errorf("%s: got %s, want a hit with %q", what, s, short(body))
	}
}

// wantFwd checks that a response came from the origin, and why.
func (s *seen) wantFwd(tb testing.TB, what, fwd, body string) {
	tb.Helper()
	if s.hit || s.fwd != fwd || s.body != body || s.broken != nil {
		tb.Errorf("%s: got %s, want fwd=%s with %q", what, s, fwd, short(body))
	}
}

func httpDate(before time.Duration) string {
	return time.Now().Add(-before).UTC().Format(http.TimeFormat)
}
