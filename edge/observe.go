package edge

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"millrace/edge/cache"
	"millrace/edge/exchange"
	"millrace/mesh"
	"millrace/node"
)

// observed is what one route has to tell: its counts, and the subjects of its events.
type observed struct {
	s      *Server
	route  *exchange.Route
	stats  *routeStats
	events [6]string       // subject by status class
	silent [6]atomic.Int64 // until when nobody listens to it, in Unix nanoseconds
}

// observe counts, logs and tells who listens what became of each request of a route.
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
			o.over(x, resp, int64(len(resp.Body)), err)
			return resp, err
		}
		resp.Stream = &counted{Body: resp.Stream, done: func(n int64, err error) { o.over(x, resp, n, err) }}
		return resp, err
	}
}

func (o *observed) hit(x *exchange.Exchange, resp *mesh.Response) {
	o.over(x, resp, int64(len(resp.Body)), nil)
}

// over tells of a response of n bytes that is over.
func (o *observed) over(x *exchange.Exchange, resp *mesh.Response, n int64, err error) {
	took := time.Since(x.Started)
	o.stats.record(resp.Status, took)
	o.s.logRequest(x, resp, n, err, took)
	class := min(resp.Status/100, 5)
	now := x.Started.Add(took).UnixNano()
	if now < o.silent[class].Load() {
		return
	}
	heard := o.s.mesh.Emit(o.events[class], func() []byte { return o.s.event(x, "", resp, n, err, took) })
	if !o.s.mesh.Emit(TailSubject, func() []byte { return o.s.event(x, x.Query, resp, n, err, took) }) && !heard {
		o.silent[class].Store(now + int64(silentFor))
	}
}

// TailSubject is where the operator's tail hears of responses, without the mesh's prefix. Only nodes may listen there:
// these events have the query, which may hold what members that share the mesh must not see.
const TailSubject = "millrace.tail"

// silentFor is how long nobody is believed to listen to a route's events after nobody did.
const silentFor = 100 * time.Millisecond

// counted is a response's stream that tells its end. Close may come from another goroutine than Next.
type counted struct {
	mesh.Body

	done func(n int64, err error)
	once sync.Once
	mu   sync.Mutex // guards what follows
	n    int64
	err  error
}

func (c *counted) Next() (mesh.Piece, error) {
	p, err := c.Body.Next()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n += int64(len(p.Data))
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
	}
	return p, err //nolint:wrapcheck // io.EOF must stay itself
}

func (c *counted) Close() error {
	err := c.Body.Close()
	c.once.Do(func() {
		c.mu.Lock()
		n, cause := c.n, c.err
		c.mu.Unlock()
		c.done(n, cause)
	})
	return err //nolint:wrapcheck // see above
}

// logRequest writes the access log, where it is wanted, and what an operator should know about failures. Client bytes
// appear in quoted values only: path and host are in canonical form, without control characters.
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
	if cache.Of(x.Route) != nil {
		args = append(args, "cache", x.Outcome.Cache.Word())
	}
	if err != nil {
		args = append(args, "error", err.Error())
	}
	s.log.Info("request", args...)
}

// target names where the route sends its requests, for logs and events.
func target(x *exchange.Exchange) string {
	if x.Route == x.Settings.Exposed {
		return "service:" + firstSegment(x.Path)
	}
	if r := x.Route; r.To.Kind == "" && r.Gather == nil && r.Redirect == nil && r.Respond == nil {
		return ""
	}
	return x.Route.Describe()
}

// Event is what observers of event.http.ROUTE.CLASS get after each response, as JSON.
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
	Error      node.Code `json:"error,omitempty"` // of a request that this node or the target has failed
	// the limit that has refused the request: the target has seen nothing of it
	OverLimit string `json:"over_limit,omitempty"`
}

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
