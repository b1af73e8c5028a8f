package edge

import (
	"context"
	"encoding/json"
	"time"

	"millrace/mesh"
	"millrace/node"
)

// observe counts, logs and tells who listens what became of each request.
func (s *Server) observe(next Handler) Handler {
	return func(ctx context.Context, x *Exchange) (*mesh.Response, error) {
		resp, err := next(ctx, x)
		took := time.Since(x.Started)
		x.route.stats.record(resp.Status, took)
		s.logRequest(x, resp, err, took)
		s.mesh.Emit(x.route.events[min(resp.Status/100, 5)], func() []byte { return s.event(x, resp, took) })
		return resp, err
	}
}

// logRequest writes the access log, where it is wanted, and what an operator should know about failures. Client bytes
// appear in quoted values only: path and host are in canonical form, without control characters.
func (s *Server) logRequest(x *Exchange, resp *mesh.Response, err error, took time.Duration) {
	if node.CodeOf(err) == node.CodeInternal {
		s.log.Error("request failed", "request_id", x.ID, "route", x.route.id, "cause", err)
	}
	if !x.settings.AccessLog {
		return
	}
	args := []any{
		"request_id", x.ID, "client", x.Client.String(), "method", x.Method, "host", x.Host, "path", x.Path,
		"status", resp.Status, "duration_ms", float64(took.Microseconds()) / 1000, "bytes_in", len(x.Body), "bytes_out", len(resp.Body),
		"route", x.route.id, "target", x.target(),
	}
	if err != nil {
		args = append(args, "error", err.Error())
	}
	s.log.Info("request", args...)
}

// target names where the route sends its requests, for logs and events.
func (x *Exchange) target() string {
	if x.route == x.settings.exposed {
		return "service:" + firstSegment(x.Path)
	}
	if x.route.To.Kind == "" {
		return ""
	}
	return x.route.To.String()
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
	Status     int       `json:"status"`
	DurationMS float64   `json:"duration_ms"`
	Route      string    `json:"route"`
	Target     string    `json:"target"`
	BytesIn    int       `json:"bytes_in"`
	BytesOut   int       `json:"bytes_out"`
	Member     string    `json:"member,omitempty"`
}

func (s *Server) event(x *Exchange, resp *mesh.Response, took time.Duration) []byte {
	b, err := json.Marshal(Event{
		Time: x.Started, Node: s.cfg.Node, RequestID: x.ID, Client: x.Client.String(), Method: x.Method, Host: x.Host, Path: x.Path,
		Status: resp.Status, DurationMS: float64(took.Microseconds()) / 1000, Route: x.route.id, Target: x.target(),
		BytesIn: len(x.Body), BytesOut: len(resp.Body), Member: resp.Member,
	})
	if err != nil { // plain strings and numbers always marshal
		return []byte("{}")
	}
	return b
}
