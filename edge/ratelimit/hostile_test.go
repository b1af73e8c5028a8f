package ratelimit_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"millrace/edge"
	"millrace/edge/edgetest"
	"millrace/node"
	"millrace/node/nodetest"
)

// cleanSubjects checks that subjects hold nothing of a client's, and counts those of records.
func cleanSubjects(t *testing.T, subjects map[string]bool, marker string) (records int) {
	t.Helper()
	record := regexp.MustCompile(`^\$KV\.millrace-limits\.[0-9a-f]{32}$`)
	for s := range subjects {
		switch {
		case record.MatchString(s):
			records++
		case s == edge.TailSubject, strings.HasPrefix(s, "event.limit."), strings.HasPrefix(s, "event.http."),
			strings.HasPrefix(s, "$JS.API."):
			if !regexp.MustCompile(`^[A-Za-z0-9$._-]+$`).MatchString(s) {
				t.Errorf("subject %q", s)
			}
		default:
			t.Errorf("subject %q", s)
		}
		if strings.Contains(s, marker) || len(s) > 200 {
			t.Errorf("subject %.300q has something of the client", s)
		}
	}
	return records
}

// Whatever stands in a key's field, it counts as it is, or the request is refused; none of it gets into subjects,
// fields of responses, or out of its place in logs and events.
func TestHostileKeysStayInTheirPlace(t *testing.T) {
	const marker = "evil-marker"
	r := edgetest.Start(t, edgetest.Config{
		Limits: &edgetest.LimitsConfig{},
		Edge:   func(e *node.Edge) { e.AccessLog = true },
		Routes: []node.Route{
			edgetest.LimitedRoute("h", edgetest.Per("1/1h", edgetest.By("header:X-Api-Key"))),
			edgetest.LimitedRoute("c", edgetest.Per("1/1h", edgetest.By("cookie:session"))),
			edgetest.Route("p", "/p/{id}", func(r *node.Route) {
				r.To.Name, r.Limit = "echo", node.Limits{edgetest.Per("1/1h", edgetest.By("param:id"))}
			}),
		},
	})
	var mu sync.Mutex
	subjects := map[string]bool{}
	var payloads strings.Builder
	for _, subject := range []string{"$KV.>", "event.>", "millrace.>", "$JS.API.>"} {
		if _, err := r.Conn.NATS().Subscribe(subject, func(m *nats.Msg) {
			mu.Lock()
			defer mu.Unlock()
			subjects[m.Subject] = true
			if strings.HasPrefix(m.Subject, "event.") && !json.Valid(m.Data) {
				t.Errorf("%s: %q isn't JSON", m.Subject, m.Data)
			}
			if !strings.HasPrefix(m.Subject, "event.http.") {
				payloads.WriteString(string(m.Data) + "\n")
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	long := strings.Repeat("x", 8<<10)
	values := []string{
		marker, long, long[1:] + "y", long + "z", "a b", "a,b", `"`, `\`, "<script>" + marker, "*", ">",
		"a.b." + marker, "$JS.API.STREAM.DELETE.x", "%0d%0aX-Evil: " + marker, `{"` + marker + `":1}`,
		"\x80\xff", "\xe2\x80\xae", "é", "|", "||", "a|127.0.0.1", "\u2028", "'; DROP TABLE limits; --",
		strings.Repeat("|", 300),
	}
	for _, route := range []string{"h", "c"} {
		for _, v := range values {
			field := "X-Api-Key: " + v
			if route == "c" {
				field = "Cookie: session=" + strings.NewReplacer(" ", "_", ";", "_", ",", "__").Replace(v)
			}
			for i, want := range []int{200, 429} {
				resp, body := r.Raw(t, "GET /"+route+" HTTP/1.1\r\nHost: h\r\n"+field+"\r\nConnection: close\r\n\r\n")
				if resp.StatusCode != want {
					t.Errorf("%.60q, request %d: got %d %.200s", field, i+1, resp.StatusCode, body)
				}
				if q := edgetest.OnlyQuota(t, resp.Header); len(q.Key) != 12 || q.R != 0 {
					t.Errorf("%.60q: told %+v", field, q)
				}
				if want == 429 && strings.Contains(body+fmt.Sprint(resp.Header), marker) {
					t.Errorf("%.60q: the refusal repeats it: %s %v", field, body, resp.Header)
				}
			}
		}
	}
	for _, bad := range []string{"a\x00b", "a\x01", "a\nb", "a\rb", "a\x7fb", "a\r\n b"} {
		if resp, body := r.Raw(t,
			"GET /h HTTP/1.1\r\nHost: h\r\nX-Api-Key: "+bad+"\r\nConnection: close\r\n\r\n"); resp.StatusCode != 400 {
			t.Errorf("%q: got %d %s", bad, resp.StatusCode, body)
		}
	}
	for _, id := range []string{
		"%3E", "*", "%2A", "a%20b", "a.b", "%22" + marker, "%C3%A9", strings.Repeat("a", 4000),
		"%7C", "+", "%2B", "~",
	} {
		for i, want := range []int{200, 429} {
			if id == "%2A" || id == "%2B" {
				want = 429 // it is what came before, in another spelling
			}
			if resp, body := r.Raw(t,
				"GET /p/"+id+" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"); resp.StatusCode != want {
				t.Errorf("%.60q, request %d: got %d %.200s", id, i+1, resp.StatusCode, body)
			}
		}
	}
	mu.Lock()
	defer mu.Unlock()
	records := cleanSubjects(t, subjects, marker)
	if records < 40 {
		t.Errorf("only %d records were seen", records)
	}
	if strings.Contains(strings.ReplaceAll(payloads.String(), "%22"+marker, ""), marker) {
		t.Error("a key's value was sent to observers or the store")
	}
	for line := range strings.SplitSeq(strings.TrimSpace(r.Log.String()), "\n") {
		if !json.Valid([]byte(line)) || strings.Contains(strings.ReplaceAll(line, "%22"+marker, ""), marker) {
			t.Errorf("log line %.300q", line)
		}
	}
}

// One target, however it is spelled, is one route with one limit.
func TestSpellingsOfOneTargetShareALimit(t *testing.T) {
	x := edgetest.LimitedRoute("x", edgetest.Per("3/1h"))
	x.Host = "shop.example"
	r := edgetest.Start(t, edgetest.Limited(x))
	passed := 0
	for _, c := range [][2]string{
		{"/x", "shop.example"},
		{"/x/", "shop.example."},
		{"/x//", "SHOP.example"},
		{"/%78", "shop.example:80"},
		{"/x/a?b", "Shop.Example.:8080"},
		{"http://shop.example/x", "other.example"},
		{"http://SHOP.EXAMPLE./x", "other.example"},
		{"https://shop.example:443/x", "h"},
		{"/x;a=b", "shop.example"},
		{"/X", "shop.example"},
	} {
		resp, body := r.Raw(t, "GET "+c[0]+" HTTP/1.1\r\nHost: "+c[1]+"\r\nConnection: close\r\n\r\n")
		switch resp.StatusCode {
		case http.StatusOK:
			passed++
		case http.StatusTooManyRequests, http.StatusNotFound, http.StatusBadRequest:
		default:
			t.Errorf("%q: got %d %s", c, resp.StatusCode, body)
		}
	}
	if passed != 3 {
		t.Errorf("%d passed, want 3", passed)
	}
}

// Many clients with a key each cost what they cost, and get what is theirs.
func TestEachKeyGetsItsOwnLimit(t *testing.T) {
	r := edgetest.Start(t,
		edgetest.Limited(edgetest.LimitedRoute("x", edgetest.Per("2/1h", edgetest.By("header:X-Api-Key")))))
	var clients sync.WaitGroup
	for worker := range 8 {
		clients.Go(func() {
			for i := range 10 {
				if n := r.Passes(t, 3, "/x", "X-Api-Key", fmt.Sprint(worker, "-", i)); n != 2 {
					t.Errorf("%d requests of a key passed, want 2", n)
				}
			}
		})
	}
	clients.Wait()
	if s := r.LimitStats("x"); s.Allowed != 160 || s.Denied != 80 {
		t.Errorf("counted %+v", s)
	}
}

// Requests that come on one connection without waiting for answers are counted one by one, and all are answered.
func TestPipelinedRequestsAreCountedOneByOne(t *testing.T) {
	r := edgetest.Start(t, edgetest.Limited(edgetest.LimitedRoute("x", edgetest.Per("5/1h")),
		edgetest.LimitedRoute("flight", edgetest.InFlight(1))))
	got := r.SendRaw(t,
		strings.Repeat("GET /x HTTP/1.1\r\nHost: h\r\n\r\n",
			19)+"GET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
	if strings.Count(got, "HTTP/1.1 200 ") != 5 || strings.Count(got, "HTTP/1.1 429 ") != 15 {
		t.Errorf("got %.300q", got)
	}
	got = r.SendRaw(t,
		strings.Repeat("GET /flight HTTP/1.1\r\nHost: h\r\n\r\n",
			19)+"GET /flight HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
	if strings.Count(got, "HTTP/1.1 200 ") != 20 {
		t.Errorf("one after another aren't in flight at once: %.300q", got)
	}
}

// A refused client that goes on sending its body, or doesn't read, holds nobody up.
func TestRefusedClientHoldsNobodyUp(t *testing.T) {
	r := edgetest.Start(t, edgetest.Limited(edgetest.LimitedRoute("x", edgetest.Per("1/1h"))))
	r.Passes(t, 1, "/x")
	for _, length := range []int{1, 100_000, 10 << 20} {
		c, err := net.Dial("tcp", r.Address)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = io.WriteString(c, "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: "+strconv.Itoa(length)+"\r\n\r\n")
		buf := make([]byte, 16)
		if _, err := io.ReadFull(c, buf); err != nil || !strings.HasPrefix(string(buf), "HTTP/1.1 429 ") {
			t.Errorf("%d bytes: got %q, %v before the body", length, buf, err)
		}
		_ = c.Close()
	}
	nodetest.Eventually(t, "nothing is held", func() bool { return r.Buffered() == 0 })
}
