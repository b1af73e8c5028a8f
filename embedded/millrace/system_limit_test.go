//go:build system

package main_test

import (
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// TestExpressLimited sends the requests of TestExpress through a proxy with a limit that isn't reached. Except for the
// fields of the limit nothing changes.
func TestExpressLimited(t *testing.T) { testExpress(t, "--limit", "1000000/15m") }

// TestExpressLimit uses up a limit. Exactly as many requests as it allows reach the application. All others are told
// when to retry.
func TestExpressLimit(t *testing.T) {
	const limit, requests = 100, 400
	app := start(t, "testdata/express", []string{"NODE_ENV=test"}, "node", "app.js")
	port := app.find(t, `(?m)^(\d+)$`)
	proxy := start(t, "", nil, build(t, "./embedded/millrace"), "proxy", port, "--listen", "127.0.0.1:0", "--limit",
		"100/15m")
	edge := proxy.find(t, `edge +(http://\S+)`)
	var mu sync.Mutex // guards got and seen
	got := map[int]int{}
	seen := map[string]bool{}
	var running sync.WaitGroup
	for range 16 {
		running.Go(func() {
			for range requests / 16 {
				resp, err := http.Get(edge + "/users/ada")
				if err != nil {
					t.Error(err)
					return
				}
				body, _ := io.ReadAll(resp.Body) // a short body is noticed below
				resp.Body.Close()
				checkLimited(t, resp, string(body))
				mu.Lock()
				got[resp.StatusCode]++
				seen[resp.Header.Get("RateLimit")] = resp.StatusCode == http.StatusOK
				mu.Unlock()
			}
		})
	}
	running.Wait()
	if got[http.StatusOK] != limit || got[http.StatusTooManyRequests] != requests-limit {
		t.Errorf("got %v, want %d admitted of %d", got, limit, requests)
	}
	if len(seen) < limit/2 { // remaining counts down; concurrent requests may see the same value
		t.Errorf("%d different RateLimit fields", len(seen))
	}
}

var (
	limitPolicy = regexp.MustCompile(`^"[a-z-]+";q=100;w=900;pk=:[A-Za-z0-9+/]+=*:$`)
	limitLeft   = regexp.MustCompile(`^"[a-z-]+";r=(\d+);t=(900|[78]\d\d)$`)
	comeBack    = regexp.MustCompile(`^(900|[78]\d\d)$`)
)

// checkLimited checks what a response says of the limit.
func checkLimited(t *testing.T, resp *http.Response, body string) {
	t.Helper()
	left := limitLeft.FindStringSubmatch(resp.Header.Get("RateLimit"))
	if !limitPolicy.MatchString(resp.Header.Get("RateLimit-Policy")) || left == nil {
		t.Errorf("%d: RateLimit-Policy %q, RateLimit %q", resp.StatusCode, resp.Header.Get("RateLimit-Policy"),
			resp.Header.Get("RateLimit"))
		return
	}
	switch resp.StatusCode {
	case http.StatusOK:
		if !strings.Contains(body, `"name":"ada"`) || resp.Header.Get("Retry-After") != "" {
			t.Errorf("admitted, but %q, Retry-After %q", body, resp.Header.Get("Retry-After"))
		}
	case http.StatusTooManyRequests:
		if left[1] != "0" || !comeBack.MatchString(resp.Header.Get("Retry-After")) ||
			resp.Header.Get("Content-Type") != "application/problem+json" ||
			!strings.Contains(body, "quota-exceeded") {
			t.Errorf("refused with %v %q", resp.Header, body)
		}
	default:
		t.Errorf("got %d %q", resp.StatusCode, body)
	}
}

// TestNodeLimit: the JavaScript example takes permits of a configured limit as a member.
func TestNodeLimit(t *testing.T) {
	n := startNode(t, build(t, "./embedded/millrace"), "limits:\n  mails: 3/day\n")
	p := start(t, nodeMember, []string{"NATS_URL=" + n.client}, "node", "limit.js")
	<-p.exited
	const want = "first true remaining 2 of 3\nof 20 more 2 more come later\nunknown not_found\n"
	if got := p.stdout.String(); p.err != nil || got != want {
		t.Errorf("it ended with %v and wrote %q %q, want %q", p.err, got, p.stderr.String(), want)
	}
}

// TestNodeGather: the JavaScript example lets a node make its calls at once.
func TestNodeGather(t *testing.T) {
	n := startNode(t, build(t, "./embedded/millrace"), "")
	p := start(t, nodeMember, []string{"NATS_URL=" + n.client}, "node", "gather.js")
	<-p.exited
	const want = "200 11 results, after-3 at once\ninvalid_request\n"
	if got := p.stdout.String(); p.err != nil || got != want {
		t.Errorf("it ended with %v and wrote %q %q, want %q", p.err, got, p.stderr.String(), want)
	}
}

// TestNodeCall: the JavaScript example calls a service that members may call, and is refused another.
func TestNodeCall(t *testing.T) {
	n := startNode(t, build(t, "./embedded/millrace"), "  member_calls: [prices]\n")
	p := start(t, nodeMember, []string{"NATS_URL=" + n.client}, "node", "call.js")
	<-p.exited
	const want = "200 { method: 'POST', path: '/7?currency=EUR', body: 'two of them' }\nforbidden\n"
	if got := p.stdout.String(); p.err != nil || got != want {
		t.Errorf("it ended with %v and wrote %q %q, want %q", p.err, got, p.stderr.String(), want)
	}
}
