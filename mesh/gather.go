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
	After []string // names of the parts that must have succeeded before this one begins
	// Do makes the call. It gets the results of the parts in After, must heed ctx, and must have read the response's
	// body whole. It runs on a goroutine of its own.
	Do func(ctx context.Context, earlier func(name string) *Response) (*Response, error)
}

// PartResult is what became of a part. Without Response and Err it wasn't over, or hadn't begun, when the gather was.
type PartResult struct {
	Name     string
	Response *Response
	Err      error
	Took     time.Duration // from its beginning
}

// OK reports whether the part succeeded: with a status below 400.
func (r *PartResult) OK() bool { return r.Err == nil && r.Response != nil && r.Response.Status < 400 }

// Gathering says how parts are gathered.
type Gathering struct {
	Concurrency int // parts that run at once; 0 for all
	// Enough tells after each result whether the others are still wanted; nil wants all. The results are those so far,
	// the newest is at last.
	Enough func(results []PartResult, last int) bool
}

// Gather runs the parts, each as soon as those are done that it comes after, and gives their results in the order of
// parts. It ends when all are done, or Enough says so, or ctx ends; parts that still run are canceled then, and waited
// for, so that nothing of a request is in use afterwards. A part whose predecessor failed fails with node.CodeUpstream.
// Names must be unique and After without cycles: others never begin.
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

// takeOver takes the responses that are there already; errors may be but the context's end.
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

// gather belongs to the goroutine that called Gather.
type gather struct {
	parts   []Part
	results []PartResult
	state   []partState
	running int
	done    chan finishedPart // has room for all, so that nobody who is late waits
}

func (g *gather) record(f finishedPart) {
	g.state[f.i] = partDone
	f.Name = g.parts[f.i].Name
	g.results[f.i] = f.PartResult
}

// begin starts what is ready, as far as there is room. What can't begin any more fails, which may decide about others.
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

// ready reports whether all predecessors of a part succeeded, or which one failed.
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

// earlier copies the results that a part needs, since the others change while it runs.
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
			f.Response, f.Err = nil, node.Errorf(node.CodeInternal, fmt.Errorf("panic: %v", p), "the call failed inside the gateway") //nolint:err113 // what it panicked with
		}
		f.Took = time.Since(began)
		g.done <- f
	}()
	f.Response, f.Err = g.parts[i].Do(ctx, earlier)
}
