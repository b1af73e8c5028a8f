package cache

import (
	"sync"
	"time"
)

// budget bounds the bytes of two kinds of responses: those being collected to be stored, and stored ones whose chunks
// are brought back for a reader. It also finds the former for requests that arrive meanwhile.
//
// Clients that read slowly must not use up the budget. Copies that grow at a client's pace are dropped when others need
// their bytes. Reads of stored responses can't be dropped, so they get half of the budget at most.
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
func (b *budget) take(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.takeLocked(n, nil)
}

// takeLocked takes n bytes. If there are too few, it drops copies that grow at their client's pace, the slowest first.
// If the bytes are for such a copy (than, otherwise nil), it drops only those that are less than half as fast. The
// caller holds mu.
func (b *budget) takeLocked(n int64, than *growing) bool {
	for b.used+n > b.max {
		slowest := b.slowest(n, than)
		if slowest == nil {
			return false
		}
		b.used -= slowest.held
		slowest.held, slowest.evicted = 0, true
		delete(b.clientPaced, slowest)
		go slowest.abandon() // abandon locks g.mu, and mu is held here
	}
	b.used += n
	return true
}

// slowest returns the response to drop next; nil if there is none, or if dropping all of them wouldn't free enough. The
// caller holds mu.
func (b *budget) slowest(n int64, than *growing) (slowest *growing) {
	now := time.Now()
	free := b.max - b.used
	for g := range b.clientPaced {
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

// give returns n bytes that take took.
func (b *budget) give(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
}

// takeForReader takes n bytes for chunks that are ahead of a reader of a stored response.
func (b *budget) takeForReader(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.readers+n > b.max/2 || !b.takeLocked(n, nil) {
		return false
	}
	b.readers += n
	return true
}

// giveFromReader returns n bytes that takeForReader took.
func (b *budget) giveFromReader(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	b.readers -= n
}

// extend takes n more bytes for a growing response. If it returns false, the response can't be stored.
func (b *budget) extend(g *growing, n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	var paced *growing
	if _, is := b.clientPaced[g]; is {
		paced = g
	}
	if g.evicted || !b.takeLocked(n, paced) {
		return false
	}
	g.held += n
	return true
}

// markClientPaced records that a response grows as fast as its client reads.
func (b *budget) markClientPaced(g *growing) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.clientPaced == nil {
		b.clientPaced = map[*growing]struct{}{}
	}
	b.clientPaced[g] = struct{}{}
}

// complete records that a response has arrived whole. It returns false if its bytes went to another.
func (b *budget) complete(g *growing) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.clientPaced, g)
	return !g.evicted
}

// transfer moves the bytes of a response to the caller, which must return them with give.
func (b *budget) transfer(g *growing) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	held := g.held
	g.held = 0
	return held
}

// publish lets other requests find a growing response.
func (b *budget) publish(g *growing) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.growing == nil {
		b.growing = map[string]*growing{}
	}
	b.growing[string(g.l.key)] = g
}

func (b *budget) find(key []byte) *growing {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.growing[string(key)]
}

// end returns the bytes of a response. Requests don't find it anymore.
func (b *budget) end(g *growing) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= g.held
	g.held = 0
	delete(b.clientPaced, g)
	if key := string(g.l.key); b.growing[key] == g {
		delete(b.growing, key)
	}
}
