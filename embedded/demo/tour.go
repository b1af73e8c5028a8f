package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"
)

// ErrTour means that a claim of the tour didn't hold.
var ErrTour = errors.New("the tour found something that is not as it says")

// stop is one claim of the tour, and its check.
type stop struct {
	claim string
	check func(ctx context.Context, edge, admin string) (seen string, ok bool)
}

var stops = []stop{
	{"a subscriber of http.hello answers GET /hello", func(ctx context.Context, edge, _ string) (string, bool) {
		r := fetch(ctx, "GET", edge+"/hello", "")
		return r.brief(), r.status == 200 && strings.Contains(r.body, "hello from a subscriber")
	}},
	{"an HTTP upstream answers GET /users/42", func(ctx context.Context, edge, _ string) (string, bool) {
		r := fetch(ctx, "GET", edge+"/users/42", "")
		return r.brief(), r.status == 200 && strings.Contains(r.body, `"id":"42"`)
	}},
	{"the same again comes from the cache", func(ctx context.Context, edge, _ string) (string, bool) {
		r := fetch(ctx, "GET", edge+"/users/42", "")
		return r.header.Get("Cache-Status"), r.status == 200 && strings.Contains(r.header.Get("Cache-Status"), "; hit")
	}},
	{"a purge by tag is true everywhere", func(ctx context.Context, edge, admin string) (string, bool) {
		purged := fetch(ctx, "POST", admin+"/v1/purge", `{"tag": "users", "wait": "all"}`)
		r := fetch(ctx, "GET", edge+"/users/42", "")
		return r.header.Get("Cache-Status"),
			purged.status == 200 && strings.Contains(r.header.Get("Cache-Status"), "fwd=")
	}},
	{"POST /users keeps status and Location", func(ctx context.Context, edge, _ string) (string, bool) {
		r := fetch(ctx, "POST", edge+"/users", `{"name":"Ada"}`)
		return r.brief() + " " + r.header.Get("Location"), r.status == 201 && r.header.Get("Location") == "/users/7"
	}},
	{"20 requests for /orders are shared by two targets", func(ctx context.Context, edge, _ string) (string, bool) {
		var by [3]int
		for range 20 {
			r := fetch(ctx, "GET", edge+"/orders?user=42", "")
			switch {
			case strings.Contains(r.body, `"server":1`):
				by[1]++
			case strings.Contains(r.body, `"server":2`):
				by[2]++
			}
		}
		return fmt.Sprintf("%d and %d", by[1], by[2]), by[1]+by[2] == 20 && by[1] > 0 && by[2] > 0
	}},
	{
		"of 5 requests to a route with limit 3/1m two are refused",
		func(ctx context.Context, edge, _ string) (string, bool) {
			by := map[int]int{}
			var last answer
			for range 5 {
				last = fetch(ctx, "GET", edge+"/limited", "")
				by[last.status]++
			}
			return fmt.Sprintf("%d Retry-After %s", last.status, last.header.Get("Retry-After")),
				by[200] == 3 && by[429] == 2 && last.header.Get("Retry-After") != ""
		},
	},
	{
		"a name that nobody has ever served is not found, at once",
		func(ctx context.Context, edge, _ string) (string, bool) {
			r := fetch(ctx, "GET", edge+"/nobody", "")
			return r.brief(), r.status == 404 && r.took < time.Second && strings.Contains(r.body, `"not_found"`)
		},
	},
	{"a path that climbs out with %2e%2e is refused", func(ctx context.Context, edge, _ string) (string, bool) {
		r := fetch(ctx, "GET", edge+"/users/%2e%2e/secret", "")
		return r.brief(), r.status == 400
	}},
	{"every response carries a request id", func(ctx context.Context, edge, _ string) (string, bool) {
		id := fetch(ctx, "GET", edge+"/hello", "").header.Get("X-Request-Id")
		return id, len(id) == 32
	}},
	{"the node is ready, and counts requests", func(ctx context.Context, _, admin string) (string, bool) {
		ready := fetch(ctx, "GET", admin+"/readyz", "")
		metrics := fetch(ctx, "GET", admin+"/metrics", "")
		return ready.brief(), ready.status == 200 && strings.Contains(metrics.body,
			`millrace_http_requests_total{class="2xx",route="users-all"}`)
	}},
}

// Tour makes the requests and prints a table of the results. The error wraps ErrTour if a claim didn't hold.
func Tour(ctx context.Context, out io.Writer, edge, admin string) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\n\tclaim\tseen")
	failed := 0
	for _, s := range stops {
		seen, ok := s.check(ctx, edge, admin)
		mark := "ok"
		if !ok {
			mark = "NOT SO"
			failed++
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", mark, s.claim, seen)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print the tour: %w", err)
	}
	if failed > 0 {
		return fmt.Errorf("%w: %d of %d claims", ErrTour, failed, len(stops))
	}
	return nil
}

// Suggest prints commands for a newcomer to try.
func Suggest(out io.Writer, edge, client string) {
	fmt.Fprintf(out, `
Try, in another terminal:
  curl %[1]s/users/42                 an HTTP upstream
  curl %[1]s/orders?user=42           two targets share the requests
  curl -i %[1]s/limited               three a minute, and then 429
  curl %[1]s/greet                    404: nobody serves it yet, so start a member:
  nats -s %[2]s reply http.greet -q q $'HTTP/1.1 200 OK\r\n\r\nHi!\n'
Ctrl-C ends the demo; it leaves nothing behind.
`, edge, client)
}

type answer struct {
	status int
	header http.Header
	body   string
	took   time.Duration
	err    error
}

func (a answer) brief() string {
	if a.err != nil {
		return a.err.Error()
	}
	line, _, _ := strings.Cut(strings.TrimSpace(a.body), "\n")
	if len(line) > 60 {
		line = line[:60] + "..."
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s", a.status, line))
}

func fetch(ctx context.Context, method, url, body string) answer {
	begin := time.Now()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return answer{err: err}
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return answer{status: resp.StatusCode, header: resp.Header, body: string(b), took: time.Since(begin), err: err}
}
