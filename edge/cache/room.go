package cache

import (
	"sync"
	"time"
)

// filling bounds the bytes of responses that are being collected to be stored, or brought together to be given, and
// finds the former for those who come while they are. What goes at a client's pace gives way to what doesn't, and has
// half of the room at most where it can't: else clients that read slowly would take all of it.
type filling struct {
	max        int64
	endsWithin time.Duration // see endsWithin

	mu    sync.Mutex // guards what follows
	used  int64
	read  int64                 // of it for readers: see lend
	grows map[string]*growing   // by the key of their fetch; of two, the newer
	paced map[*growing]struct{} // those that grow as their client reads
}

// paceAfter is how long a response grows at its client's pace before it is known whether that is slow.
const paceAfter = 500 * time.Millisecond

// take takes room for what no client holds up.
func (f *filling) take(n int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.room(n, nil)
}

// room takes room. Where there is none, it puts those out that grow at their client's pace, from the slowest: for one
// of them only such as are less than half as fast. The caller holds mu.
func (f *filling) room(n int64, paced *growing) bool {
	for f.used+n > f.max {
		slowest := f.slowest(n, paced)
		if slowest == nil {
			return false
		}
		f.used -= slowest.held
		slowest.held, slowest.out = 0, true
		delete(f.paced, slowest)
		go slowest.abandon() // which takes its lock
	}
	f.used += n
	return true
}

// slowest gives the one that is put out next; nil if there is none, or if there would be no room even so. The caller
// holds mu.
func (f *filling) slowest(n int64, than *growing) (slowest *growing) {
	now := time.Now()
	free := f.max - f.used
	for g := range f.paced {
		if g == than || now.Sub(g.born) < paceAfter || (than != nil && 2*g.pace(now) > than.pace(now)) {
			continue
		}
		free += g.held
		if slowest == nil || g.pace(now) < slowest.pace(now) {
			slowest = g
		}
	}
	if free < n {
		return nil
	}
	return slowest
}

// give gives room back.
func (f *filling) give(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.used -= n
}

// lend takes room for what is ahead of a reader of a stored response.
func (f *filling) lend(n int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.read+n > f.max/2 || !f.room(n, nil) {
		return false
	}
	f.read += n
	return true
}

// giveBack ends a lend.
func (f *filling) giveBack(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.used -= n
	f.read -= n
}

// hold takes more room for a response that grows. False means that it must stop.
func (f *filling) hold(g *growing, n int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	var paced *growing
	if _, is := f.paced[g]; is {
		paced = g
	}
	if g.out || !f.room(n, paced) {
		return false
	}
	g.held += n
	return true
}

// follows says that a response grows as its client reads.
func (f *filling) follows(g *growing) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.paced == nil {
		f.paced = map[*growing]struct{}{}
	}
	f.paced[g] = struct{}{}
}

// settle says that a response is here whole. False means that its room is another's already.
func (f *filling) settle(g *growing) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.paced, g)
	return !g.out
}

// inherit gives the room of a response to who gives it back with give.
func (f *filling) inherit(g *growing) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	held := g.held
	g.held = 0
	return held
}

// show lets others find a response that grows.
func (f *filling) show(g *growing) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.grows == nil {
		f.grows = map[string]*growing{}
	}
	f.grows[string(g.l.key)] = g
}

func (f *filling) find(key []byte) *growing {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.grows[string(key)]
}

// end gives the room of a response back, and lets nobody else find it.
func (f *filling) end(g *growing) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.used -= g.held
	g.held = 0
	delete(f.paced, g)
	if key := string(g.l.key); f.grows[key] == g {
		delete(f.grows, key)
	}
}
