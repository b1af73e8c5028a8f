package ratelimit_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"millrace/edge/edgetest"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

// queueing makes a limit hold requests back.
func queueing(wait time.Duration, line int) func(*node.Limit) {
	return func(l *node.Limit) {
		l.Mode, l.MaxWait, l.MaxQueue = node.LimitModeQueue, node.Duration(wait), line
	}
}

// served is a service that notes in which order requests come, and answers each when the test says so.
type served struct {
	release chan struct{} // one answer for each value; nil if all are answered at once

	mu    sync.Mutex
	order []string // bodies
}

func (s *served) serve(ctx context.Context, r *mesh.Request) (*mesh.Response, error) {
	s.mu.Lock()
	s.order = append(s.order, string(r.Body))
	s.mu.Unlock()
	if s.release != nil {
		select {
		case <-s.release:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return &mesh.Response{Status: 200}, nil
}

// seen gives the bodies that have come so far.
func (s *served) seen() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.order)
}

// waitQueued waits until so many requests of a limit have waited, or do.
func waitQueued(t *testing.T, r *edgetest.Rig, name string, n int) {
	t.Helper()
	nodetest.Eventually(t, fmt.Sprintf("%d requests of %s have waited", n, name), func() bool {
		return r.LimitStats(name).Queued >= uint64(n)
	})
}

// Requests beyond the limit wait for their turn, and are served in the order in which they came.
func TestQueueServesInOrder(t *testing.T) {
	q := edgetest.LimitedRoute("q", edgetest.InFlight(1, queueing(time.Minute, 100)))
	q.To.Name = "turns"
	r := edgetest.Start(t, edgetest.Limited(q))
	s := &served{release: make(chan struct{})}
	r.Service(t, "turns", s.serve)
	const n = 10
	var clients sync.WaitGroup
	var want []string
	for i := range n {
		body := strconv.Itoa(i)
		want = append(want, body)
		clients.Go(func() {
			if resp, got := r.Do(t, "POST", "/q", body); resp.StatusCode != 200 ||
				edgetest.OnlyQuota(t, resp.Header).R != 0 {
				t.Errorf("request %s: got %d %s, %v", body, resp.StatusCode, got, resp.Header)
			}
		})
		if i == 0 {
			nodetest.Eventually(t, "the first runs", func() bool { return len(s.seen()) == 1 })
		}
		waitQueued(t, r, "q", i)
	}
	if got := s.seen(); len(got) != 1 {
		t.Errorf("%q run at once", got)
	}
	for i := range n {
		s.release <- struct{}{}
		if i < n-1 {
			nodetest.Eventually(t, "the next runs", func() bool { return len(s.seen()) == i+2 })
		}
	}
	clients.Wait()
	if got := s.seen(); !slices.Equal(got, want) {
		t.Errorf("served in the order %q", got)
	}
	if st := r.LimitStats("q"); st.Allowed != n || st.Denied != 0 || st.Queued != n-1 {
		t.Errorf("counted %+v", st)
	}
}

// Nobody passes by those who wait, however often he asks and however little he needs: what is left of a window isn't
// for those who came later than one who needs more.
func TestNobodyPassesTheQueue(t *testing.T) {
	dear, cheap := edgetest.LimitedRoute("dear", edgetest.Per("shared", func(l *node.Limit) {
		l.Cost = 20
	})), edgetest.LimitedRoute("cheap", edgetest.Per("shared"))
	dear.To.Name, cheap.To.Name = "turns", "turns"
	r := edgetest.Start(t, edgetest.Config{
		Limits: &edgetest.LimitsConfig{
			Named: map[string]node.Limit{
				"shared": edgetest.Per("20/2s", queueing(time.Minute, 10), edgetest.By("all")),
			},
		},
		Routes: []node.Route{dear, cheap},
	})
	s := &served{}
	r.Service(t, "turns", s.serve)
	if resp, _ := r.Do(t, "POST", "/cheap", "first"); resp.StatusCode != 200 ||
		edgetest.OnlyQuota(t, resp.Header).R != 19 {
		t.Fatalf("got %d, %v", resp.StatusCode, resp.Header)
	}
	var clients sync.WaitGroup
	send := func(path, body string) {
		clients.Go(func() {
			if resp, _ := r.Do(t, "POST", path, body); resp.StatusCode != 200 {
				t.Errorf("%s got %d", body, resp.StatusCode)
			}
		})
	}
	send("/dear", "waits")
	waitQueued(t, r, "shared", 1)
	for range 4 {
		send("/cheap", "late")
	}
	clients.Wait()
	if got := s.seen(); !slices.Equal(got, []string{"first", "waits", "late", "late", "late", "late"}) {
		t.Errorf("served in the order %q", got)
	}
}

// A wait that would be too long isn't begun; one that gets too long is ended; a line that is full takes nobody in. All
// of that is a refusal.
func TestQueueRefusesBeyondItsBounds(t *testing.T) {
	wait, full := edgetest.LimitedRoute("wait", edgetest.InFlight(1, queueing(50*time.Millisecond, 100))),
		edgetest.LimitedRoute("full", edgetest.InFlight(1, queueing(time.Minute, 2)))
	wait.To.Name, full.To.Name = "turns", "turns"
	r := edgetest.Start(t, edgetest.Limited(
		wait,
		full,
		edgetest.LimitedRoute("hopeless", edgetest.Per("1/1h", queueing(time.Minute, 100))),
		edgetest.LimitedRoute("never", edgetest.Per("0/1h", queueing(time.Minute, 100))),
		edgetest.LimitedRoute("bucket", edgetest.Per("60/1h", queueing(time.Second, 100), func(l *node.Limit) {
			l.Algorithm, l.Burst = node.AlgorithmBucket, 1
		})),
	))
	s := &served{release: make(chan struct{})}
	r.Service(t, "turns", s.serve)
	refused := func(path string, least time.Duration) {
		t.Helper()
		begun := time.Now()
		resp, body := r.Do(t, "GET", path, "")
		if q := edgetest.OnlyQuota(t, resp.Header); resp.StatusCode != 429 || q.R != 0 ||
			number(t, resp.Header, "Retry-After") < max(q.T, 1) || !strings.Contains(body, "violated-policies") {
			t.Errorf("%s: got %d %s with %v", path, resp.StatusCode, body, edgetest.LimitFields(t, resp.Header))
		}
		if took := time.Since(begun); took < least {
			t.Errorf("%s: refused after %s already", path, took)
		}
	}
	for _, path := range []string{"/hopeless", "/bucket"} {
		if n := r.Passes(t, 1, path); n != 1 {
			t.Errorf("%s: the first doesn't pass", path)
		}
		refused(path, 0)
	}
	refused("/never", 0)

	var clients sync.WaitGroup
	send := func(path string) {
		clients.Go(func() {
			if resp, _ := r.Do(t, "GET", path, ""); resp.StatusCode != 200 {
				t.Errorf("%s: one who waited got %d", path, resp.StatusCode)
			}
		})
	}
	send("/wait")
	send("/full")
	nodetest.Eventually(t, "both run", func() bool { return len(s.seen()) == 2 })
	refused("/wait", 50*time.Millisecond)
	send("/full")
	send("/full")
	waitQueued(t, r, "full", 2)
	for range 3 {
		refused("/full", 0)
	}
	if n := r.Passes(t, 0, "/full", "X-Forwarded-For", "192.0.2.1"); n != 0 {
		t.Error("another client waits in this line")
	}
	for range 4 {
		s.release <- struct{}{}
	}
	clients.Wait()
}

// A client that goes away while it waits leaves the line at once, and nothing is done for it: with a body and without.
func TestClientThatGoesAwayLeavesTheQueue(t *testing.T) {
	q := edgetest.LimitedRoute("q", edgetest.InFlight(1, queueing(time.Minute, 1)))
	q.To.Name = "turns"
	r := edgetest.Start(t, edgetest.Limited(q))
	s := &served{release: make(chan struct{})}
	r.Service(t, "turns", s.serve)
	for i, text := range []string{
		"GET /q HTTP/1.1\r\nHost: h\r\n\r\n", "POST /q HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\ngone",
		"POST /q HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngone\r\n0\r\n\r\n",
	} {
		from := fmt.Sprint("192.0.2.", i)
		var clients sync.WaitGroup
		clients.Go(func() {
			if n := r.Passes(t, 1, "/q", "X-Forwarded-For", from); n != 1 {
				t.Error("the first was refused")
			}
		})
		nodetest.Eventually(t, "the first runs", func() bool { return len(s.seen()) == 2*i+1 })
		c, err := net.Dial("tcp", r.Address)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, strings.Replace(text, "Host: h", "Host: h\r\nX-Forwarded-For: "+from, 1))
		waitQueued(t, r, "q", 2*i+1)
		if n := r.Passes(t, 1, "/q", "X-Forwarded-For", from); n != 0 {
			t.Error("there is room for two")
		}
		_ = c.Close()
		clients.Go(func() {
			nodetest.Eventually(t, "it gets its turn", func() bool {
				return r.Passes(t, 1, "/q", "X-Forwarded-For", from) == 1
			})
		})
		waitQueued(t, r, "q", 2*i+2) // it has got into the line
		s.release <- struct{}{}
		s.release <- struct{}{}
		clients.Wait()
	}
	if got := s.seen(); len(got) != 6 || slices.Contains(got, "gone") {
		t.Errorf("%q were served", got)
	}
}

// What is told after a wait is true then: a window that began when the request's turn came ends that much later.
func TestFieldsAfterAWaitAreTrueThen(t *testing.T) {
	r := edgetest.Start(t, edgetest.Limited(edgetest.LimitedRoute("q",
		edgetest.Per("1/1500ms", queueing(time.Minute, 100), edgetest.HeaderForm(node.HeaderLegacy)))))
	var before int64
	for range 3 {
		resp, _ := r.Do(t, "GET", "/q", "")
		reset := number(t, resp.Header, "X-RateLimit-Reset")
		if resp.StatusCode != 200 || reset <= before {
			t.Errorf("got %d, and a reset at %d after one at %d", resp.StatusCode, reset, before)
		}
		before = reset
	}
}
