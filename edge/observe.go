package edge

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"millrace/edge/cache"
	"millrace/edge/exchange"
	"millrace/edge/site"
	"millrace/mesh"
	"millrace/node"
)

// observed holds a route's counts and the subjects of its events.
type observed struct {
	s            *Server
	route        *exchange.Route
	stats        *routeStats
	events       [6]string       // subject by status class
	unheardUntil [6]atomic.Int64 // when to try the subject again, in Unix nanoseconds
}

// observe counts and logs each response of a route, and sends an event for it.
func (s *Server) observe(r *exchange.Route) exchange.Policy {
	o := &observed{s: s, route: r, stats: s.stats.of(r.ID)}
	for class := range o.events {
		o.events[class] = "event.http." + r.ID + "." + string(rune('0'+class)) + "xx"
	}
	return exchange.Policy{Name: "observe", Wrap: o.wrap, Value: o, Short: &exchange.Short{Done: o.hit}}
}

func (o *observed) wrap(next exchange.Handler) exchange.Handler {
	return func(ctx context.Context, x *exchange.Exchange) (*mesh.Response, error) {
		resp, err := next(ctx, x)
		if resp.Stream == nil {
			o.finish(x, resp, int64(len(resp.Body)), err)
			return resp, err
		}
		body := &observedBody{Body: resp.Stream, done: func(n int64, err error) { o.finish(x, resp, n, err) }}
		if file, ok := resp.Stream.(exchange.FileBody); ok {
			resp.Stream = &observedFile{body, file}
		} else {
			resp.Stream = body
		}
		return resp, err
	}
}

// hit is observe on the short way.
func (o *observed) hit(x *exchange.Exchange, resp *mesh.Response) {
	n := int64(len(resp.Body))
	if file, ok := resp.Stream.(exchange.FileBody); ok {
		_, _, left := file.File()
		n = resp.Length - left
	} else if resp.Stream != nil {
		n = resp.Length
	}
	o.finish(x, resp, n, nil)
}

// finish records a response that has ended after n bytes. An event is made only if somebody subscribes. If nobody does,
// no event of the class is tried for unheardFor.
func (o *observed) finish(x *exchange.Exchange, resp *mesh.Response, n int64, err error) {
	took := time.Since(x.Started)
	o.stats.record(resp.Status, took)
	o.s.logRequest(x, resp, n, err, took)
	class := min(resp.Status/100, 5)
	now := x.Started.Add(took).UnixNano()
	if now < o.unheardUntil[class].Load() {
		return
	}
	delivered := o.s.mesh.Emit(o.events[class], func() []byte { return o.s.event(x, "", resp, n, err, took) })
	if !o.s.mesh.Emit(TailSubject, func() []byte { return o.s.event(x, x.Query, resp, n, err, took) }) && !delivered {
		o.unheardUntil[class].Store(now + int64(unheardFor))
	}
}

// TailSubject is the subject of the operator's tail, without the mesh's prefix. Only nodes may subscribe to it: its
// events have the query, which may hold secrets that other members of the mesh must not see.
const TailSubject = "millrace.tail"

// unheardFor is how long a route's events aren't sent after nobody subscribed to one.
const unheardFor = 100 * time.Millisecond

// observedBody is a response's stream that calls done once, when it is closed. Close may be called from another
// goroutine than Next.
type observedBody struct {
	mesh.Body

	done func(n int64, err error)
	once sync.Once
	mu   sync.Mutex // guards what follows
	n    int64      // bytes so far
	err  error      // why the stream broke off
}

func (c *observedBody) Next() (mesh.Piece, error) {
	p, err := c.Body.Next()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n += int64(len(p.Data))
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
	}
	return p, err
}

func (c *observedBody) Close() error {
	err := c.Body.Close()
	c.once.Do(func() {
		c.mu.Lock()
		n, cause := c.n, c.err
		c.mu.Unlock()
		c.done(n, cause)
	})
	return err
}

// observedFile is an observedBody that is a part of a file.
type observedFile struct {
	*observedBody

	file exchange.FileBody
}

// File returns the file.
func (c *observedFile) File() (f *os.File, offset, length int64) { return c.file.File() }

// Sent counts what was sent from the file.
func (c *observedFile) Sent(n int64, failed error) {
	c.file.Sent(n, failed)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n += n
	if failed != nil {
		c.err = failed
	}
}

// logRequest writes the access log if it is on, and logs internal errors. Path and host are canonical, so they have no
// control characters; other bytes of the client are in values that the log quotes.
func (s *Server) logRequest(x *exchange.Exchange, resp *mesh.Response, bytes int64, err error, took time.Duration) {
	if node.CodeOf(err) == node.CodeInternal {
		s.log.Error("request failed", "request_id", x.ID, "route", x.Route.ID, "cause", err)
	}
	if !x.Settings.AccessLog {
		return
	}
	args := []any{
		"request_id", x.ID, "client", x.Client.String(), "method", x.Method, "host", x.Host, "path", x.Path,
		"status", resp.Status, "duration_ms", float64(took.Microseconds()) / 1000, "bytes_in", x.BytesIn(),
		"bytes_out", bytes, "route", x.Route.ID, "target", target(x),
	}
	if cache.Of(x.Route) != nil || site.Of(x.Route) != nil {
		args = append(args, "cache", x.Outcome.Cache.Word())
	}
	if err != nil {
		args = append(args, "error", err.Error())
	}
	s.log.Info("request", args...)
}

// target names the route's target, for logs and events.
func target(x *exchange.Exchange) string {
	if x.Route == x.Settings.Exposed {
		return "service:" + firstSegment(x.Path)
	}
	if r := x.Route; r.To.Kind == "" && len(r.Try) == 0 && r.Gather == nil && r.Redirect == nil && r.Respond == nil {
		return ""
	}
	return x.Route.Describe()
}

// Event is the JSON that is published on event.http.ROUTE.CLASS after each response.
type Event struct {
	Time       time.Time `json:"time"`
	Node       string    `json:"node"`
	RequestID  string    `json:"request_id"`
	Client     string    `json:"client"`
	Method     string    `json:"method"`
	Host       string    `json:"host"`
	Path       string    `json:"path"`
	Query      string    `json:"query,omitempty"` // with its question mark; for the operator's tail only
	Status     int       `json:"status"`
	DurationMS float64   `json:"duration_ms"`
	Route      string    `json:"route"`
	Target     string    `json:"target"`
	BytesIn    int64     `json:"bytes_in"`
	BytesOut   int64     `json:"bytes_out"`
	Member     string    `json:"member,omitempty"`
	Cache      string    `json:"cache,omitempty"` // hit, or why the request went on
	Error      node.Code `json:"error,omitempty"` // if this node or the target failed
	// the limit that refused the request, which the target hasn't got
	OverLimit string `json:"over_limit,omitempty"`
}

// event returns an Event as JSON.
func (s *Server) event(x *exchange.Exchange, query string, resp *mesh.Response, bytes int64, failed error,
	took time.Duration,
) []byte {
	b, err := json.Marshal(Event{
		Time: x.Started, Node: s.cfg.Node, RequestID: x.ID, Client: x.Client.String(), Method: x.Method,
		Host: x.Host, Path: x.Path, Query: query, Status: resp.Status,
		DurationMS: float64(took.Microseconds()) / 1000, Route: x.Route.ID, Target: target(x),
		BytesIn: x.BytesIn(), BytesOut: bytes, Member: resp.Member, Cache: x.Outcome.Cache.Word(),
		Error: node.CodeOf(failed), OverLimit: x.Outcome.OverLimit,
	})
	if err != nil { // plain strings and numbers always marshal
		return []byte("{}")
	}
	return b
}
