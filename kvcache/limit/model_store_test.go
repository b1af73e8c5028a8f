package limit_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"millrace/kvcache/limit"
)

// faults are what happens to messages, each with its probability.
type faults struct {
	lost       float64       // request or reply is lost
	duplicated float64       // arrives twice
	delayed    float64       // takes up to maxDelay; messages keep their order
	maxDelay   time.Duration // may exceed a request's patience
	// Requests to the store that fail early without a known outcome; others wait until their deadline.
	broken float64
	stale  float64 // reads that needn't be fresh and return an earlier record
}

// version is a record as it was between two writes.
type version struct {
	limit.Stored

	ends time.Time
}

// modelStore keeps records with revisions. Puts are applied one at a time, and records expire.
type modelStore struct {
	away         atomic.Bool // requests get lost
	acceptsStale atomic.Bool // accepts stale writes, to show that the model notices

	mu        sync.Mutex // guards what follows
	records   map[limit.Key][]version
	notServed map[limit.Key]bool // records that the store doesn't return
	rev       uint64
}

func newModelStore() *modelStore {
	return &modelStore{records: map[limit.Key][]version{}, notServed: map[limit.Key]bool{}}
}

// latest returns the current record. The caller holds the lock.
func (s *modelStore) latest(key limit.Key) version {
	versions := s.records[key]
	if n := len(versions); n > 0 && time.Now().Before(versions[n-1].ends) {
		return versions[n-1]
	}
	return version{}
}

func (s *modelStore) put(key limit.Key, v limit.Stored, keep time.Duration) (uint64, error) {
	const remembered = 4
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.latest(key).Rev != v.Rev && !s.acceptsStale.Load() {
		return 0, limit.ErrConflict
	}
	delete(s.notServed, key)
	s.rev++
	versions := s.records[key]
	if len(versions) == remembered {
		versions = versions[1:]
	}
	v.Rev = s.rev
	s.records[key] = append(slices.Clip(versions), version{v, time.Now().Add(keep)})
	return s.rev, nil
}

func (s *modelStore) drop(key limit.Key, upTo uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.latest(key).Rev > upTo {
		return
	}
	delete(s.records, key)
	delete(s.notServed, key)
}

// damage makes a key's record one that the store doesn't return, or one that can't be read.
func (s *modelStore) damage(key limit.Key, notServed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.latest(key)
	if last.Rev == 0 {
		return
	}
	if s.notServed[key] = notServed; !notServed {
		s.rev++
		last.Rev, last.Value = s.rev, []byte("damaged")
		s.records[key] = append(s.records[key], last)
	}
}

// get returns the record as a replica has it that is behind by that many writes.
func (s *modelStore) get(key limit.Key, behind int) version {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.notServed[key] {
		return version{}
	}
	if behind == 0 {
		return s.latest(key)
	}
	versions := s.records[key]
	if behind > len(versions)-1 {
		return version{}
	}
	return versions[len(versions)-1-behind]
}

// link is the connection of one node to the store and the other nodes.
type link struct {
	m    *model
	name string
	dead atomic.Bool

	offStore atomic.Bool // cut off from the store
	offPeers atomic.Bool // cut off from the other nodes

	mu   sync.Mutex // guards rand
	rand *rand.Rand
}

// delay draws how long a message takes, and whether it arrives.
func (l *link) delay(off *atomic.Bool) (time.Duration, bool) {
	f := l.m.faults
	l.mu.Lock()
	defer l.mu.Unlock()
	d := 50*time.Microsecond + time.Duration(l.rand.Int64N(int64(300*time.Microsecond)))
	if l.rand.Float64() < f.delayed {
		d += time.Duration(l.rand.Int64N(int64(f.maxDelay)))
	}
	return d, l.rand.Float64() >= f.lost && !off.Load()
}

func (l *link) chance(p float64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rand.Float64() < p
}

// deliver delivers a message: it calls arrive never, once or twice, later, even if the sender is gone by then.
func (l *link) deliver(off *atomic.Bool, arrive func()) {
	if d, arrives := l.delay(off); arrives {
		time.AfterFunc(d, arrive)
	}
	if l.chance(l.m.faults.duplicated) {
		if d, arrives := l.delay(off); arrives {
			time.AfterFunc(d, arrive)
		}
	}
}

// reply delivers a reply to this node.
func (l *link) reply(off *atomic.Bool, arrive func()) {
	if d, arrives := l.delay(off); arrives {
		time.AfterFunc(d, func() {
			if !off.Load() && !l.dead.Load() {
				arrive()
			}
		})
	}
}

// broken returns a channel that receives when the connection reports a failure; nil if it doesn't.
func (l *link) broken() <-chan time.Time {
	if !l.chance(l.m.faults.broken) {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.After(time.Millisecond + time.Duration(l.rand.Int64N(int64(100*time.Millisecond))))
}

type answer struct {
	version

	err error
}

// await returns the first reply, or an error after which the outcome of the request is unknown.
func (l *link) await(ctx context.Context, answers <-chan answer) (version, error) {
	select {
	case a := <-answers:
		return a.version, a.err
	case <-l.broken():
	case <-ctx.Done():
	}
	return version{}, limit.ErrAway
}

// Get reads a record.
func (l *link) Get(ctx context.Context, key limit.Key, fresh bool) (limit.Stored, error) {
	behind := 0
	if !fresh && l.chance(l.m.faults.stale) {
		l.mu.Lock()
		behind = 1 + l.rand.IntN(4)
		l.mu.Unlock()
	}
	answers := make(chan answer, 2)
	l.deliver(&l.offStore, func() {
		if l.m.store.away.Load() {
			return
		}
		v := l.m.store.get(key, behind)
		l.m.log("%s reads %s behind %d: rev %d", l.name, key, behind, v.Rev)
		l.reply(&l.offStore, func() { answers <- answer{version: v} })
	})
	v, err := l.await(ctx, answers)
	return v.Stored, err
}

// Put replaces a record. If the request arrives twice, only the first one is answered.
func (l *link) Put(ctx context.Context, key limit.Key, r limit.Stored, keep time.Duration) (uint64, error) {
	answers := make(chan answer, 1)
	var first sync.Once
	l.deliver(&l.offStore, func() {
		if l.m.store.away.Load() {
			return
		}
		next, err := l.m.store.put(key, r, keep)
		l.m.log("%s puts %s on rev %d: rev %d, %v %s", l.name, key, r.Rev, next, err, r.Value)
		first.Do(func() {
			l.reply(&l.offStore, func() { answers <- answer{version{Stored: limit.Stored{Rev: next}}, err} })
		})
	})
	v, err := l.await(ctx, answers)
	return v.Rev, err
}

// Last returns the newest revision.
func (l *link) Last(ctx context.Context) (uint64, error) {
	answers := make(chan answer, 2)
	l.deliver(&l.offStore, func() {
		if l.m.store.away.Load() {
			return
		}
		l.m.store.mu.Lock()
		rev := l.m.store.rev
		l.m.store.mu.Unlock()
		l.reply(&l.offStore, func() { answers <- answer{version: version{Stored: limit.Stored{Rev: rev}}} })
	})
	v, err := l.await(ctx, answers)
	return v.Rev, err
}

// Drop removes a record.
func (l *link) Drop(ctx context.Context, key limit.Key, upTo uint64) error {
	answers := make(chan answer, 2)
	l.deliver(&l.offStore, func() {
		if l.m.store.away.Load() {
			return
		}
		l.m.store.drop(key, upTo)
		l.m.log("%s drops %s", l.name, key)
		l.reply(&l.offStore, func() { answers <- answer{} })
	})
	_, err := l.await(ctx, answers)
	return err
}

// Alone reports whether there never are other nodes.
func (l *link) Alone() bool { return l.m.nodes == 1 }

// Nodes returns how many nodes this one believes that there are.
func (l *link) Nodes() int { return int(l.m.believed.Load()) }

// Recall asks the other nodes, some of which may be cut off, stopped, or earlier incarnations. It returns the first
// reply of each name that arrives in time.
func (l *link) Recall(ctx context.Context, w limit.RecallRequest, wait time.Duration) []limit.RecallReply {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	others := l.m.others(l)
	if w.Op == "clock" {
		return l.clocks(ctx, w, others)
	}
	answers := make(chan limit.RecallReply, 2*len(others)) // since a request may arrive twice
	for _, other := range others {
		l.deliver(&l.offPeers, func() {
			if other.offPeers.Load() || other.dead.Load() {
				return
			}
			g, ok := other.limiter.AnswerRecall(w)
			l.m.log("%s answers %s's %s of %s until %d: %d, %t", other.name, l.name, w.Op, w.Key, w.Until, g.Permits,
				ok)
			if ok {
				l.reply(&l.offPeers, func() { answers <- g })
			}
		})
	}
	var out []limit.RecallReply
	seen := map[string]bool{}
	for len(out) < l.Nodes()-1 {
		select {
		case g := <-answers:
			if !seen[g.Node] {
				seen[g.Node] = true
				out = append(out, g)
			}
		case <-ctx.Done():
			return out
		}
	}
	return out
}

// clocks asks the other nodes for their clocks. These requests don't fail, since a node that starts would otherwise use
// its own clock; with noClocks all of them do.
func (l *link) clocks(ctx context.Context, w limit.RecallRequest, others []*member) (out []limit.RecallReply) {
	const slowest = 100 * time.Millisecond
	if l.m.noClocks {
		return nil
	}
	answers := make(chan limit.RecallReply, len(others))
	for _, other := range others {
		there, _ := l.delay(&l.offPeers)
		there = min(there, slowest)
		time.AfterFunc(there, func() {
			g, _ := other.limiter.AnswerRecall(w)
			back, _ := l.delay(&l.offPeers)
			back = min(back, slowest)
			time.AfterFunc(back, func() {
				g.ReceivedAt = time.Now()
				answers <- g
			})
		})
	}
	for range others {
		select {
		case g := <-answers:
			out = append(out, g)
		case <-ctx.Done():
			return out
		}
	}
	return out
}
