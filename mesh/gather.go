package mesh

import (
	"context"
	"fmt"
	"slices"
	"time"

	"millrace/node"
)

// Part is one call of a Gather.
type Part struct {
	Name  string
	After []string // names of parts that must succeed before this one starts
	// Do makes the call, on a goroutine of its own. It gets the responses of the parts in After, must return when ctx
	// ends, and must have read the response's whole body.
	Do func(ctx context.Context, earlier func(name string) *Response) (*Response, error)
}

// PartResult is the result of a part. If both Response and Err are nil, the part hadn't finished, or hadn't started,
// when the gather ended.
type PartResult struct {
	Name     string
	Response *Response
	Err      error
	Took     time.Duration // since the part started
}

// OK reports whether the part succeeded, with a status below 400.
func (r *PartResult) OK() bool { return r.Err == nil && r.Response != nil && r.Response.Status < 400 }

// Gathering configures how parts run.
type Gathering struct {
	Concurrency int // parts that run at once; 0 for all
	// Enough reports, after each result, whether the gather may end. It gets the results so far; the newest is
	// results[last]. If Enough is nil, all parts run.
	Enough func(results []PartResult, last int) bool
}

// Gather runs the parts, each as soon as the parts in its After have succeeded, and returns their results in the order
// of parts. It ends when all are done, when Enough says so, or when ctx ends. Parts that still run are then canceled
// and waited for, so nothing of the request is in use afterwards. A part fails with node.CodeUpstream if one that it
// comes after has failed. Names must be unique and After free of cycles, or the affected parts never start.
func Gather(ctx context.Context, how Gathering, parts []Part) []PartResult {
	ctx, cancel := context.WithCancel(ctx)
	g := gather{
		parts: parts, results: make([]PartResult, len(parts)), state: make([]partState, len(parts)),
		done: make(chan finishedPart, len(parts)),
	}
	for i := range parts {
		g.results[i].Name = parts[i].Name
	}
	defer func() {
		for cancel(); g.running > 0; g.running-- {
			<-g.done
		}
	}()
	if how.Concurrency <= 0 {
		how.Concurrency = len(parts)
	}
	for {
		if g.startReady(ctx, how); g.running == 0 {
			return g.results
		}
		select {
		case f := <-g.done:
			g.running--
			g.record(f)
			if how.Enough != nil && how.Enough(g.results, f.i) {
				return g.results
			}
		case <-ctx.Done():
			g.recordFinished()
			return g.results
		}
	}
}

// recordFinished records the responses that have arrived. Errors are ignored: they may only result from the context's
// end.
func (g *gather) recordFinished() {
	for {
		select {
		case f := <-g.done:
			if g.running--; f.Err == nil {
				g.record(f)
			}
		default:
			return
		}
	}
}

type partState byte

const (
	partWaiting partState = iota
	partRunning
	partDone
)

type finishedPart struct {
	i int
	PartResult
}

// gather is the state of one Gather. Only the calling goroutine uses it.
type gather struct {
	parts   []Part
	results []PartResult
	state   []partState
	running int
	done    chan finishedPart // capacity for every part, so that none blocks
}

func (g *gather) record(f finishedPart) {
	g.state[f.i] = partDone
	f.Name = g.parts[f.i].Name
	g.results[f.i] = f.PartResult
}

// startReady starts the parts that are ready, within the concurrency. A part that can't start any more fails, which may
// affect others.
func (g *gather) startReady(ctx context.Context, how Gathering) {
	for changed := true; changed; {
		changed = false
		for i := range g.parts {
			if g.state[i] != partWaiting {
				continue
			}
			ready, failed := g.ready(i)
			switch {
			case failed != "":
				g.record(finishedPart{i, PartResult{Err: node.Errorf(node.CodeUpstream, nil,
					"call %s, which comes before it, failed", failed)}})
				changed = true
			case ready && g.running < how.Concurrency:
				g.state[i] = partRunning
				g.running++
				go g.run(ctx, i, g.earlier(i))
			}
		}
	}
}

// ready reports whether all parts that part i comes after have succeeded, or names one that has failed.
func (g *gather) ready(i int) (ready bool, failed string) {
	ready = true
	for _, name := range g.parts[i].After {
		before := g.index(name)
		switch {
		case before < 0 || g.state[before] != partDone:
			ready = false
		case !g.results[before].OK():
			return false, name
		}
	}
	return ready, ""
}

func (g *gather) index(name string) int {
	return slices.IndexFunc(g.parts, func(p Part) bool { return p.Name == name })
}

// earlier returns a function for the responses that a part needs. They are copied, since results change while it runs.
func (g *gather) earlier(i int) func(string) *Response {
	found := make(map[string]*Response, len(g.parts[i].After))
	for _, name := range g.parts[i].After {
		found[name] = g.results[g.index(name)].Response
	}
	return func(name string) *Response { return found[name] }
}

func (g *gather) run(ctx context.Context, i int, earlier func(string) *Response) {
	began := time.Now()
	f := finishedPart{i: i}
	defer func() {
		if p := recover(); p != nil {
			f.Response = nil
			f.Err = node.Errorf(node.CodeInternal, fmt.Errorf("panic: %v", p), "the call failed inside the gateway")
		}
		f.Took = time.Since(began)
		g.done <- f
	}()
	f.Response, f.Err = g.parts[i].Do(ctx, earlier)
}
