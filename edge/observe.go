package edge

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync"
	"time"

	"millrace/mesh"
	"millrace/node"
)

// observe counts, logs and tells who listens what became of each request.
func (s *Server) observe(next Handler) Handler {
	return func(ctx context.Context, x *Exchange) (*mesh.Response, error) {
		resp, err := next(ctx, x)
		if x.route.cached != nil && !x.cacheStatus.Hit {
			s.origins.note(x)
		}
		if resp.Stream == nil {
			s.observed(x, resp, int64(len(resp.Body)), err, time.Since(x.Started))
			return resp, err
		}
		resp.Stream = &counted{Body: resp.Stream, done: func(n int64, err error) {
			s.observed(x, resp, n, err, time.Since(x.Started))
		}}
		return resp, err
	}
}

// observed tells of a response of n bytes that is over.
func (s *Server) observed(x *Exchange, resp *mesh.Response, n int64, err error, took time.Duration) {
	x.route.stats.record(resp.Status, took)
	s.logRequest(x, resp, n, err, took)
	class := min(resp.Status/100, 5)
	now := x.Started.Add(took).UnixNano()
	if now < x.route.silent[class].Load() {
		return
	}
	heard := s.mesh.Emit(x.route.events[class], func() []byte { return s.event(x, "", resp, n, err, took) })
	if !s.mesh.Emit(TailSubject, func() []byte { return s.event(x, x.Query, resp, n, err, took) }) && !heard {
		x.route.silent[class].Store(now + int64(silentFor))
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
func (s *Server) logRequest(x *Exchange, resp *mesh.Response, bytes int64, err error, took time.Duration) {
	if node.CodeOf(err) == node.CodeInternal {
		s.log.Error("request failed", "request_id", x.ID, "route", x.route.id, "cause", err)
	}
	if !x.settings.AccessLog {
		return
	}
	args := []any{
		"request_id", x.ID, "client", x.Client.String(), "method", x.Method, "host", x.Host, "path", x.Path,
		"status", resp.Status, "duration_ms", float64(took.Microseconds()) / 1000, "bytes_in", x.bytesIn(),
		"bytes_out", bytes, "route", x.route.id, "target", x.target(),
	}
	if x.route.cached != nil {
		args = append(args, "cache", x.cacheStatus.Word())
	}
	if err != nil {
		args = append(args, "error", err.Error())
	}
	s.log.Info("request", args...)
}

// bytesIn is the number of bytes of the request's body that were read.
func (x *Exchange) bytesIn() int64 { return int64(len(x.Body)) + x.streamed.Load() }

// target names where the route sends its requests, for logs and events.
func (x *Exchange) target() string {
	if x.route == x.settings.exposed {
		return "service:" + firstSegment(x.Path)
	}
	if r := x.route; r.To.Kind == "" && r.Gather == nil && r.Redirect == nil && r.Respond == nil {
		return ""
	}
	return x.route.Describe()
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

func (s *Server) event(x *Exchange, query string, resp *mesh.Response, bytes int64, failed error,
	took time.Duration,
) []byte {
	b, err := json.Marshal(Event{
		Time: x.Started, Node: s.cfg.Node, RequestID: x.ID, Client: x.Client.String(), Method: x.Method,
		Host: x.Host, Path: x.Path, Query: query, Status: resp.Status,
		DurationMS: float64(took.Microseconds()) / 1000, Route: x.route.id, Target: x.target(),
		BytesIn: x.bytesIn(), BytesOut: bytes, Member: resp.Member, Cache: x.cacheStatus.Word(),
		Error: node.CodeOf(failed), OverLimit: x.beyond,
	})
	if err != nil { // plain strings and numbers always marshal
		return []byte("{}")
	}
	return b
}
