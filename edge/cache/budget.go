package cache

import (
	"sync"
	"time"
)

// budget bounds the bytes of two kinds of responses: those being collected to be stored, and stored ones whose chunks
// are brought back for a reader. It also finds the former for requests that arrive meanwhile.
//
// Clients that read slowly must not use up the budget. Copies that grow at a client's pace are dropped when others need
// their bytes. Reading stored responses can't be interrupted so, and gets half of the budget at most.
type budget struct {
	max        int64
	endsWithin time.Duration // see the constant endsWithin

	mu          sync.Mutex // guards what follows
	used        int64
	readers     int64                 // the part of used that takeForReader took
	growing     map[string]*growing   // by the key of their fetch; the newer one if there are two
	clientPaced map[*growing]struct{} // those that grow as fast as their client reads
}

// rateAfter is how long a copy grows at its client's pace before its rate is judged.
const rateAfter = 500 * time.Millisecond

// take takes n bytes for a response that doesn't wait for a client. It returns false if there are too few.
func (f *budget) take(n int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.takeLocked(n, nil)
}

// takeLocked takes n bytes. If there are too few, it drops copies that grow at their client's pace, the slowest first.
// For a response that grows so itself (than, else nil), it drops only those that are less than half as fast. The caller
// holds mu.
func (f *budget) takeLocked(n int64, paced *growing) bool {
	for f.used+n > f.max {
		slowest := f.slowest(n, paced)
		if slowest == nil {
			return false
		}
		f.used -= slowest.held
		slowest.held, slowest.evicted = 0, true
		delete(f.clientPaced, slowest)
		go slowest.abandon() // abandon locks g.mu, and mu is held here
	}
	f.used += n
	return true
}

// slowest returns the response to drop next; nil if there is none, or if dropping all of them wouldn't free enough. The
// caller holds mu.
func (f *budget) slowest(n int64, than *growing) (slowest *growing) {
	now := time.Now()
	free := f.max - f.used
	for g := range f.clientPaced {
		if g == than || now.Sub(g.started) < rateAfter || (than != nil && 2*g.rate(now) > than.rate(now)) {
			continue
		}
		free += g.held
		if slowest == nil || g.rate(now) < slowest.rate(now) {
			slowest = g
		}
	}
	if free < n {
		return nil
	}
	return slowest
}

// give returns n bytes of take.
func (f *budget) give(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.used -= n
}

// takeForReader takes n bytes for chunks that are ahead of a reader of a stored response.
func (f *budget) takeForReader(n int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.readers+n > f.max/2 || !f.takeLocked(n, nil) {
		return false
	}
	f.readers += n
	return true
}

// giveFromReader returns n bytes of takeForReader.
func (f *budget) giveFromReader(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.used -= n
	f.readers -= n
}

// extend takes n more bytes for a growing response. If it returns false, the response can't be stored.
func (f *budget) extend(g *growing, n int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	var paced *growing
	if _, is := f.clientPaced[g]; is {
		paced = g
	}
	if g.evicted || !f.takeLocked(n, paced) {
		return false
	}
	g.held += n
	return true
}

// markClientPaced records that a response grows as fast as its client reads.
func (f *budget) markClientPaced(g *growing) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.clientPaced == nil {
		f.clientPaced = map[*growing]struct{}{}
	}
	f.clientPaced[g] = struct{}{}
}

// complete records that a response has arrived whole. It returns false if its bytes went to another.
func (f *budget) complete(g *growing) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.clientPaced, g)
	return !g.evicted
}

// transfer moves the bytes of a response to the caller, which must return them with give.
func (f *budget) transfer(g *growing) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	held := g.held
	g.held = 0
	return held
}

// publish lets other requests find a growing response.
func (f *budget) publish(g *growing) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.growing == nil {
		f.growing = map[string]*growing{}
	}
	f.growing[string(g.l.key)] = g
}

func (f *budget) find(key []byte) *growing {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.growing[string(key)]
}

// end returns the bytes of a response. Requests don't find it anymore.
func (f *budget) end(g *growing) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.used -= g.held
	g.held = 0
	delete(f.clientPaced, g)
	if key := string(g.l.key); f.growing[key] == g {
		delete(f.growing, key)
	}
}
