package edgetest

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"millrace/mesh"
)

// Representation is what an origin has at a moment, of which it answers single ranges, If-Range and If-None-Match.
type Representation struct {
	Body    string
	Header  []string // validators and Cache-Control
	Streams bool
}

// Answer answers one request.
func (c *Representation) Answer(req *mesh.Request, _ int) *mesh.Response {
	h := Fields(c.Header...)
	etag := h.Get("ETag")
	if v := req.Header.Get("If-None-Match"); v != "" && v == etag {
		return &mesh.Response{Status: 304, Header: h}
	}
	first, last := int64(0), int64(len(c.Body)-1)
	spec, ok := strings.CutPrefix(req.Header.Get("Range"), "bytes=")
	if cond := req.Header.Get("If-Range"); cond != "" && cond != etag && cond != h.Get("Last-Modified") {
		ok = false
	}
	status := 200
	if a, b, _ := strings.Cut(spec, "-"); ok && !strings.Contains(spec, ",") {
		status = 206
		n, _ := strconv.ParseInt(b, 10, 64)
		switch {
		case a == "":
			first = last + 1 - n
		case b == "":
			first, _ = strconv.ParseInt(a, 10, 64)
		default:
			first, _ = strconv.ParseInt(a, 10, 64)
			last = min(last, n)
		}
		h.Add("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, len(c.Body)))
	}
	part := c.Body[first : last+1]
	resp := &mesh.Response{Status: status, Header: h, Body: []byte(part)}
	if c.Streams {
		StreamBody(resp)
	}
	return resp
}

// StreamBody makes a response's body come as a stream of known length.
func StreamBody(resp *mesh.Response) {
	resp.Stream, resp.Length = mesh.NewBody(bytes.NewReader(resp.Body)), int64(len(resp.Body))
	resp.Body = nil
}

// Questions are what an origin was asked for: of each request its Range, and If-Range behind a comma if there is one.
type Questions struct {
	mu   sync.Mutex
	list []string
}

// Of notes what f is asked for.
func (q *Questions) Of(f Answer) Answer {
	return func(req *mesh.Request, n int) *mesh.Response {
		text := req.Header.Get("Range")
		if cond := req.Header.Get("If-Range"); cond != "" {
			text += "," + cond
		}
		q.mu.Lock()
		q.list = append(q.list, text)
		q.mu.Unlock()
		return f(req, n)
	}
}

// All gives what was noted so far.
func (q *Questions) All() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.list)
}

// InChunks is an origin with a body of n bytes and such validators, of which it answers ranges.
func InChunks(n int, validator ...string) *Representation {
	header := append([]string{"Cache-Control", "max-age=600"}, validator...)
	return &Representation{Body: Text(n), Header: header, Streams: true}
}
