package gather

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"millrace/edge/exchange"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/http1"
)

// Config says what a Gatherer works with.
type Config struct {
	// Part makes the route of a call.
	Part func(call string) Part
	// Cache says how the route's own cache keeps the answer to an exchange.
	Cache  func(x *exchange.Exchange) Caching
	Budget Budget // of bytes that are held in memory
	Log    *slog.Logger
}

// Part is one call as a route of its own: its target behind the call's cache and limits.
type Part struct {
	Route  *exchange.Route
	Record func(status int, took time.Duration) // counts a call that is over
}

// Caching is what composing an answer must know of the cache that keeps it. The zero value means that none does.
type Caching struct {
	On       bool
	TTL      time.Duration // how long it keeps what names no freshness
	Personal bool          // the request may have changed the response
}

// Gatherer makes the calls of a route with gather. call.go makes one call, answer.go the answer.
type Gatherer struct {
	cfg     Config
	how     *node.Gather
	rewrite *node.Rewrite
	names   []string // in the order of the response
	parts   []Part   // by name's index
}

// New makes the calls of a route ready.
func New(cfg Config, r *node.Route) *Gatherer {
	g := &Gatherer{cfg: cfg, how: r.Gather, rewrite: r.Rewrite, names: slices.Sorted(maps.Keys(r.Gather.Calls))}
	for _, name := range g.names {
		g.parts = append(g.parts, cfg.Part(name))
	}
	return g
}

// Handle makes the calls of one request and answers with their results. It is the end of a route's chain: the deadline
// is set, and the route's rules for responses are applied here, before the answer tells what is missing.
func (g *Gatherer) Handle(ctx context.Context, x *exchange.Exchange) (*mesh.Response, error) {
	ctx, cancel := context.WithDeadline(ctx, x.Forward.Deadline)
	defer cancel()
	held := &holding{budget: g.cfg.Budget}
	defer held.release()
	outs := make([]partOut, len(g.names))
	decided := false
	enough := func(results []mesh.PartResult, last int) bool {
		decided = g.enough(results, outs, last)
		return decided
	}
	results := mesh.Gather(ctx, mesh.Gathering{Concurrency: g.how.Concurrency, Enough: enough}, g.calls(x, held, outs))
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil, exchange.ErrGone
	}
	if !decided && ctx.Err() != nil {
		g.standIn(results, outs)
	}
	resp, err := g.answer(results, outs, decided, held)
	if err != nil {
		return nil, err
	}
	g.tellCaches(x, resp, results)
	if g.rewrite != nil {
		exchange.Edit(&resp.Header, &g.rewrite.Response)
	}
	g.tell(x, resp, results, outs)
	return resp, nil
}

// calls makes the parts of one request.
func (g *Gatherer) calls(x *exchange.Exchange, held *holding, outs []partOut) []mesh.Part {
	header := partHeader(x)
	parts := make([]mesh.Part, len(g.names))
	for i, name := range g.names {
		c := g.how.Calls[name]
		p := &part{call: &c, to: &g.parts[i], x: x, log: g.cfg.Log, header: header, held: held, out: &outs[i]}
		parts[i] = mesh.Part{Name: name, After: c.After, Do: p.do}
	}
	return parts
}

// standIn takes what stands in for parts that weren't over in time.
func (g *Gatherer) standIn(results []mesh.PartResult, outs []partOut) {
	for i := range results {
		r, instead := &results[i], g.how.Calls[results[i].Name].Fallback
		if r.Err == nil && r.Response == nil && instead != "" {
			outs[i].fellBack = true
			r.Response = jsonResponse([]byte(instead))
		}
	}
}

// partHeader is the client's fields that calls carry, too.
func partHeader(x *exchange.Exchange) mesh.Header {
	h := slices.Clone(x.Header)
	h.Delete(func(f mesh.Field) bool { return ofWhole(f.Name) })
	h.Add("Accept-Encoding", "identity") // a coded part can't be put into the whole
	return h
}

// ofWhole names the fields of the client's request that are about the response as a whole, or about a body, which calls
// don't have.
func ofWhole(name string) bool {
	return http1.HasPrefixFold(name, "If-") || http1.HasPrefixFold(name, "Content-") || node.SameName(name, "Range") ||
		node.SameName(name, "Accept-Encoding") || node.SameName(name, "Expect")
}
