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
)

// Config is what New needs beside the route. All fields must be set.
type Config struct {
	// Part returns the route of a call.
	Part func(call string) Part
	// Cache returns how the route's own cache would store the answer to an exchange.
	Cache  func(x *exchange.Exchange) Caching
	Budget Budget // for the bytes held in memory
	Log    *slog.Logger
}

// Part is one call as a route of its own, with the call's target, cache and limits.
type Part struct {
	Route  *exchange.Route
	Record func(status int, took time.Duration) // counts a call that has ended
}

// Caching says how a cache would store an answer. The zero value means that none does.
type Caching struct {
	On       bool
	TTL      time.Duration // freshness of a response that states none
	Personal bool          // the response may be for its client alone
}

// Gatherer makes the calls of a route with gather. It is safe for concurrent use.
type Gatherer struct {
	cfg     Config
	spec    *node.Gather
	rewrite *node.Rewrite
	names   []string // in the order of the response
	parts   []Part   // in the order of names
}

// New returns a Gatherer for a route with gather.
func New(cfg Config, r *node.Route) *Gatherer {
	g := &Gatherer{cfg: cfg, spec: r.Gather, rewrite: r.Rewrite, names: slices.Sorted(maps.Keys(r.Gather.Calls))}
	for _, name := range g.names {
		g.parts = append(g.parts, cfg.Part(name))
	}
	return g
}

// Handle makes the calls of one request and answers with their results. It is the end of a route's chain. The exchange
// must have a deadline. Handle applies the route's response rules itself, because the fields that name missing parts
// must not be changed by them.
func (g *Gatherer) Handle(ctx context.Context, x *exchange.Exchange) (*mesh.Response, error) {
	ctx, cancel := context.WithDeadline(ctx, x.Forward.Deadline)
	defer cancel()
	held := &heldBytes{budget: g.cfg.Budget}
	defer held.release()
	outcomes := make([]partOutcome, len(g.names))
	decided := false
	enough := func(results []mesh.PartResult, last int) bool {
		decided = g.enough(results, outcomes, last)
		return decided
	}
	results := mesh.Gather(ctx, mesh.Gathering{Concurrency: g.spec.Concurrency, Enough: enough},
		g.calls(x, held, outcomes))
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil, exchange.ErrGone
	}
	if !decided && ctx.Err() != nil {
		g.applyFallbacks(results, outcomes)
	}
	resp, err := g.answer(results, outcomes, decided, held)
	if err != nil {
		return nil, err
	}
	g.addCacheFields(x, resp, results)
	if g.rewrite != nil {
		exchange.Edit(&resp.Header, &g.rewrite.Response)
	}
	g.addReport(x, resp, results, outcomes)
	return resp, nil
}

// calls returns the calls of one request for mesh.Gather.
func (g *Gatherer) calls(x *exchange.Exchange, held *heldBytes, outcomes []partOutcome) []mesh.Part {
	header := partHeader(x)
	parts := make([]mesh.Part, len(g.names))
	for i, name := range g.names {
		c := g.spec.Calls[name]
		p := &part{call: &c, to: &g.parts[i], x: x, log: g.cfg.Log, header: header, held: held, outcome: &outcomes[i]}
		parts[i] = mesh.Part{Name: name, After: c.After, Do: p.do}
	}
	return parts
}

// applyFallbacks uses the fallbacks of parts that didn't end in time.
func (g *Gatherer) applyFallbacks(results []mesh.PartResult, outcomes []partOutcome) {
	for i := range results {
		r, fallback := &results[i], g.spec.Calls[results[i].Name].Fallback
		if r.Err == nil && r.Response == nil && fallback != "" {
			outcomes[i].fellBack = true
			r.Response = jsonResponse([]byte(fallback))
		}
	}
}

// partHeader returns the header fields of the calls: those of the client that make sense for a call.
func partHeader(x *exchange.Exchange) mesh.Header {
	h := slices.Clone(x.Header)
	h.Delete(func(f mesh.Field) bool { return notForCalls(f.Name) })
	h.Add("Accept-Encoding", "identity") // a coded body can't be put into the answer
	return h
}

// notForCalls reports whether a field of the client's request is about the whole response, or about the request's body,
// so that a call doesn't get it.
func notForCalls(name string) bool {
	return node.HasPrefixFold(name, "If-") || node.HasPrefixFold(name, "Content-") || node.SameName(name, "Range") ||
		node.SameName(name, "Accept-Encoding") || node.SameName(name, "Expect")
}
