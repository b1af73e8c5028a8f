package upstream

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"millrace/mesh"
	"millrace/node"
)

// ReadResponse reads a response, as if a target had sent the bytes and closed the connection.
func ReadResponse(answer []byte, method string) (*mesh.Response, error) {
	p, err := newPool("http://127.0.0.1:1", netip.Addr{}, time.Second, time.Now)
	if err != nil {
		return nil, err
	}
	t := &target{up: &Upstream{}, pool: p, log: slog.New(slog.DiscardHandler), now: time.Now}
	c := newConn(&replay{Reader: bytes.NewReader(answer)}, nil)
	rt := &roundTrip{t: t, c: c, req: &mesh.Request{Method: method}, stop: func() bool { return true }}
	resp, err := rt.run(time.Minute)
	if err != nil || resp.Stream == nil {
		rt.end(false)
		return resp, err
	}
	resp.Body, err = io.ReadAll(mesh.NewReader(resp.Stream))
	return resp, err
}

// ParseFields parses field lines as a target sends them.
func ParseFields(block []byte) (mesh.Header, []byte, error) { return parseFields(block) }

// replay is a connection that only reads.
type replay struct {
	*bytes.Reader
	net.Conn
}

func (r *replay) Read(p []byte) (int, error)  { return r.Reader.Read(p) }
func (r *replay) Close() error                { return nil }
func (r *replay) Write(p []byte) (int, error) { return len(p), nil }
func (r *replay) SetDeadline(time.Time) error { return nil }

// ShareAfter returns the share of a target that returned that long ago.
func ShareAfter(weight int64, since, slowStart time.Duration) int {
	now := time.Now()
	t := &target{now: func() time.Time { return now }}
	t.weight.Store(weight)
	t.returned.Store(sinceEpoch(now.Add(-since)))
	return t.share(slowStart)
}

// Gradient wraps an adaptive limit.
type Gradient struct{ g *gradient }

// NewGradient returns a new adaptive limit.
func NewGradient(now func() time.Time) Gradient { return Gradient{newGradient(now)} }

// Limit returns the current limit.
func (g Gradient) Limit() int { return int(g.g.limit.Load()) }

// Observe records a request that has ended.
func (g Gradient) Observe(took time.Duration, inFlight int64) { g.g.observe(took, inFlight) }

// EndOverdueProbe ends a probe that takes too long.
func (g Gradient) EndOverdueProbe() bool { return g.g.endOverdueProbe() }

// DeadlineOf returns when an upstream must have answered a request.
func DeadlineOf(cfg node.Upstream, req *mesh.Request) time.Time {
	return (&state{cfg: cfg}).deadline(req)
}

// Gradients returns the adaptive limits of an upstream's targets.
func (s *Set) Gradients(upstream string) (out []Gradient) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.members[upstream].state.Load().targets {
		out = append(out, Gradient{t.adaptive.Load()})
	}
	return out
}

// Base returns the latency without a queue, or 0 if it isn't known.
func (g Gradient) Base() time.Duration {
	g.g.mu.Lock()
	defer g.g.mu.Unlock()
	return time.Duration(g.g.base)
}

// FailureOf classifies an error of a request at a target.
func FailureOf(err error) node.Failure { return failureOf(err).proxyStatus }

// ConnectError marks an error to connect.
func ConnectError(err error) error { return connectError(err) }
