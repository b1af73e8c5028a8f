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

// faults are what becomes of messages, each with its probability.
type faults struct {
	lost    float64       // on the way there or back
	again   float64       // arrive twice
	slow    float64       // take up to longest, and overtake nothing
	longest time.Duration // may be more than anybody waits
	// questions to the store whose asker learns soon that there may be no answer; else it waits until its deadline
	broken float64
	stale  float64 // reads that needn't be fresh and give what was
}

// version is a record as it was from one write to the next.
type version struct {
	limit.Stored

	ends time.Time
}

// modelStore keeps records with revisions: puts are applied one at a time, and forgotten when nobody can count on them.
type modelStore struct {
	away     atomic.Bool // what arrives gets lost
	careless atomic.Bool // applies what is late too, and says that all is well: to show that the model notices

	mu      sync.Mutex // guards what follows
	records map[limit.Key][]version
	ghosts  map[limit.Key]bool // those of them that can't be given
	rev     uint64
}

func newModelStore() *modelStore {
	return &modelStore{records: map[limit.Key][]version{}, ghosts: map[limit.Key]bool{}}
}

// latest gives the record that counts. The caller holds the lock.
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
	if s.latest(key).Rev != v.Rev && !s.careless.Load() {
		return 0, limit.ErrConflict
	}
	delete(s.ghosts, key)
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
	delete(s.ghosts, key)
}

// damage makes the record of a key one that the store has and can't give, or one that can't be read.
func (s *modelStore) damage(key limit.Key, ghost bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.latest(key)
	if last.Rev == 0 {
		return
	}
	if s.ghosts[key] = ghost; !ghost {
		s.rev++
		last.Rev, last.Value = s.rev, []byte("damaged")
		s.records[key] = append(s.records[key], last)
	}
}

// get gives the record, or what a replica has that is behind by up to so many writes.
func (s *modelStore) get(key limit.Key, behind int) version {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ghosts[key] {
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

// link is how one node reaches the store and the others.
type link struct {
	m    *model
	name string
	dead atomic.Bool

	offStore atomic.Bool // doesn't reach the store
	offPeers atomic.Bool // reaches no other node, and none reaches it

	mu   sync.Mutex // guards rand
	rand *rand.Rand
}

// travel draws how long a message takes, and whether it arrives.
func (l *link) travel(off *atomic.Bool) (time.Duration, bool) {
	f := l.m.faults
	l.mu.Lock()
	defer l.mu.Unlock()
	d := 50*time.Microsecond + time.Duration(l.rand.Int64N(int64(300*time.Microsecond)))
	if l.rand.Float64() < f.slow {
		d += time.Duration(l.rand.Int64N(int64(f.longest)))
	}
	return d, l.rand.Float64() >= f.lost && !off.Load()
}

func (l *link) chance(p float64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rand.Float64() < p
}

// send brings a message over: arrive runs never, once or twice, later, whatever becomes of the sender.
func (l *link) send(off *atomic.Bool, arrive func()) {
	if d, arrives := l.travel(off); arrives {
		time.AfterFunc(d, arrive)
	}
	if l.chance(l.m.faults.again) {
		if d, arrives := l.travel(off); arrives {
			time.AfterFunc(d, arrive)
		}
	}
}

// back brings an answer to this node.
func (l *link) back(off *atomic.Bool, arrive func()) {
	if d, arrives := l.travel(off); arrives {
		time.AfterFunc(d, func() {
			if !off.Load() && !l.dead.Load() {
				arrive()
			}
		})
	}
}

// fails gives when a connection tells that there will be no answer; never, if it doesn't.
func (l *link) fails() <-chan time.Time {
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

// await gives the first answer, or an error that leaves open what became of the question.
func (l *link) await(ctx context.Context, answers <-chan answer) (version, error) {
	select {
	case a := <-answers:
		return a.version, a.err
	case <-l.fails():
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
	l.send(&l.offStore, func() {
		if l.m.store.away.Load() {
			return
		}
		v := l.m.store.get(key, behind)
		l.m.log("%s reads %s behind %d: rev %d", l.name, key, behind, v.Rev)
		l.back(&l.offStore, func() { answers <- answer{version: v} })
	})
	v, err := l.await(ctx, answers)
	return v.Stored, err
}

// Put replaces a record. Of a request that arrives twice, only the first has an answer.
func (l *link) Put(ctx context.Context, key limit.Key, r limit.Stored, keep time.Duration) (uint64, error) {
	answers := make(chan answer, 1)
	var first sync.Once
	l.send(&l.offStore, func() {
		if l.m.store.away.Load() {
			return
		}
		next, err := l.m.store.put(key, r, keep)
		l.m.log("%s puts %s on rev %d: rev %d, %v %s", l.name, key, r.Rev, next, err, r.Value)
		first.Do(func() {
			l.back(&l.offStore, func() { answers <- answer{version{Stored: limit.Stored{Rev: next}}, err} })
		})
	})
	v, err := l.await(ctx, answers)
	return v.Rev, err
}

// Last gives the newest revision.
func (l *link) Last(ctx context.Context) (uint64, error) {
	answers := make(chan answer, 2)
	l.send(&l.offStore, func() {
		if l.m.store.away.Load() {
			return
		}
		l.m.store.mu.Lock()
		rev := l.m.store.rev
		l.m.store.mu.Unlock()
		l.back(&l.offStore, func() { answers <- answer{version: version{Stored: limit.Stored{Rev: rev}}} })
	})
	v, err := l.await(ctx, answers)
	return v.Rev, err
}

// Drop removes a record.
func (l *link) Drop(ctx context.Context, key limit.Key, upTo uint64) error {
	answers := make(chan answer, 2)
	l.send(&l.offStore, func() {
		if l.m.store.away.Load() {
			return
		}
		l.m.store.drop(key, upTo)
		l.m.log("%s drops %s", l.name, key)
		l.back(&l.offStore, func() { answers <- answer{} })
	})
	_, err := l.await(ctx, answers)
	return err
}

// Alone tells that there never are others.
func (l *link) Alone() bool { return l.m.nodes == 1 }

// Nodes is how many nodes this one believes that there are.
func (l *link) Nodes() int { return int(l.m.believed.Load()) }

// Recall asks the other nodes, of which some may be cut off, stopped, or older incarnations of others, and gives each
// name's first answer that comes in time.
func (l *link) Recall(ctx context.Context, w limit.Want, wait time.Duration) []limit.Gift {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	others := l.m.others(l)
	if w.Op == "clock" {
		return l.clocks(ctx, w, others)
	}
	answers := make(chan limit.Gift, 2*len(others)) // since a question may arrive twice
	for _, other := range others {
		l.send(&l.offPeers, func() {
			if other.offPeers.Load() || other.dead.Load() {
				return
			}
			g, ok := other.limiter.Answer(w)
			l.m.log("%s answers %s's %s of %s until %d: %d, %t", other.name, l.name, w.Op, w.Key, w.Until, g.Permits,
				ok)
			if ok {
				l.back(&l.offPeers, func() { answers <- g })
			}
		})
	}
	var out []limit.Gift
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

// clocks asks the other nodes what their clocks say. Such questions get through, or else a node that starts would
// believe its own clock; in some runs nobody ever hears of another's clock.
func (l *link) clocks(ctx context.Context, w limit.Want, others []*member) (out []limit.Gift) {
	const slowest = 100 * time.Millisecond
	if l.m.deaf {
		return nil
	}
	answers := make(chan limit.Gift, len(others))
	for _, other := range others {
		there, _ := l.travel(&l.offPeers)
		there = min(there, slowest)
		time.AfterFunc(there, func() {
			g, _ := other.limiter.Answer(w)
			back, _ := l.travel(&l.offPeers)
			back = min(back, slowest)
			time.AfterFunc(back, func() {
				g.Heard = time.Now()
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
