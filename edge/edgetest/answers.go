package edgetest

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"millrace/mesh"
)

// Reflecting is an origin that believes whatever a request says, and repeats it.
func Reflecting(req *mesh.Request, n int) *mesh.Response {
	var b strings.Builder
	b.WriteString(req.Method + " " + req.Target + " " + req.Host + " " + string(req.Body) + "\n")
	for _, f := range req.Header {
		if !strings.EqualFold(f.Name, "X-Request-Id") && !strings.EqualFold(f.Name, "Traceparent") {
			b.WriteString(f.Name + ": " + f.Value + "\n")
		}
	}
	return &mesh.Response{
		Status: 200, Header: Fields("Cache-Control", "max-age=600", "X-N", strconv.Itoa(n)),
		Body: []byte(b.String()),
	}
}

// Gate holds an origin's answer back until it is opened.
func Gate(f Answer) (held Answer, open func()) {
	ch := make(chan struct{})
	return func(req *mesh.Request, n int) *mesh.Response {
		<-ch
		return f(req, n)
	}, sync.OnceFunc(func() { close(ch) })
}

// Fresh answers with a body that stays fresh for ten minutes; %d in it becomes the number of the request.
func Fresh(body string) Answer { return Always(200, body, "Cache-Control", "max-age=600") }

// Always answers every request alike, with fields in turn; %d in body becomes the number of the request.
func Always(status int, body string, header ...string) Answer {
	return func(_ *mesh.Request, n int) *mesh.Response {
		return &mesh.Response{
			Status: status, Header: Fields(header...),
			Body: []byte(strings.ReplaceAll(body, "%d", strconv.Itoa(n))),
		}
	}
}

// InTurn answers the nth request with the nth answer, and all after the last with the last.
func InTurn(list ...Answer) Answer {
	return func(r *mesh.Request, n int) *mesh.Response { return list[min(n, len(list))-1](r, n) }
}

// HTTPDate is the time so long ago as header fields write it.
func HTTPDate(before time.Duration) string {
	return time.Now().Add(-before).UTC().Format(http.TimeFormat)
}

// Stale is a response that has been stale for so long when it comes.
func Stale(body string, since int, control ...string) Answer {
	h := []string{
		"Cache-Control", strings.Join(append([]string{"max-age=10"}, control...), ", "), "Age",
		strconv.Itoa(10 + since), "ETag", `"1"`,
	}
	return Always(200, body, h...)
}
