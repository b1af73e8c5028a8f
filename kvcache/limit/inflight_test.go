package limit_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"millrace/kvcache/limit"
	"millrace/node"
	"millrace/node/nodetest"
)

// inFlight is a limit on requests in flight.
func inFlight(n int, change ...func(*node.Limit)) node.Limit {
	return rule(fmt.Sprintf("%d/1s", n), append([]func(*node.Limit){func(l *node.Limit) {
		l.Algorithm, l.Window = node.AlgorithmConcurrent, node.Window{}
	}}, change...)...)
}

// after waits for a time that no condition tells, such as how long a request takes.
func after(d time.Duration) { <-time.After(d) }

// gauge counts requests in flight, and remembers the most.
type gauge struct{ now, most, total atomic.Int64 }

func (g *gauge) enter() {
	n := g.now.Add(1)
	g.total.Add(1)
	for {
		if most := g.most.Load(); n <= most || g.most.CompareAndSwap(most, n) {
			return
		}
	}
}

func (g *gauge) leave() { g.now.Add(-1) }

// work runs requests of the given length on a rule with some workers until over returns true, and counts them.
func work(tb testing.TB, r *limit.Rule, client string, workers int, over func() bool, long time.Duration, g *gauge,
	done *atomic.Int64,
) {
	tb.Helper()
	key := r.Key([]byte(client))
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for !over() {
				d, err := r.Take(context.Background(), key, 1)
				// On a busy machine the store may not answer in time.
				if err != nil && !errors.Is(err, limit.ErrAway) {
					tb.Errorf("a request got %v", err)
				}
				if !d.Allowed {
					after(time.Millisecond)
					continue
				}
				g.enter()
				after(long)
				g.leave()
				r.Leave(key, 1)
				done.Add(1)
			}
		})
	}
	running.Wait()
}

func TestThreeNodesKeepInflightLimit(t *testing.T) { // not parallel: three servers need the machine
	const most = 7
	queue := func(l *node.Limit) { l.Mode = node.LimitModeQueue }
	ls := three(t, map[string]node.Limit{"refuse": inFlight(most), "queue": inFlight(most, queue)})
	for _, name := range []string{"refuse", "queue"} {
		t.Run(name, func(t *testing.T) {
			var g gauge
			var each [3]atomic.Int64
			var running sync.WaitGroup
			begun := time.Now()
			over := func() bool { // when each node had slots, which takes longer on a busy machine
				all := each[0].Load() > 0 && each[1].Load() > 0 && each[2].Load() > 0
				return (all && time.Since(begun) > 1200*time.Millisecond) || time.Since(begun) > 20*time.Second
			}
			for i, l := range ls {
				running.Go(func() { work(t, l.Rule(name), "client", 10, over, 5*time.Millisecond, &g, &each[i]) })
			}
			running.Wait()
			t.Logf("%d at once at most, %d in all, by node %d, %d and %d", g.most.Load(), g.total.Load(),
				each[0].Load(), each[1].Load(), each[2].Load())
			for _, l := range ls {
				t.Logf("%+v", l.Stats())
			}
			if g.most.Load() > most {
				t.Errorf("%d were in flight at once, want at most %d", g.most.Load(), most)
			}
			for i := range each {
				if each[i].Load() == 0 {
					t.Errorf("node %d never had a slot", i+1)
				}
			}
			// All slots are returned: each node can have all of them in turn.
			for i, l := range ls {
				takeAllSlots(t, l.Rule(name), fmt.Sprintf("node %d", i+1), most)
			}
		})
	}
}

// takeAllSlots takes all slots of an unused key, checks that there are no more, and returns them.
func takeAllSlots(tb testing.TB, r *limit.Rule, who string, most int) {
	tb.Helper()
	key := r.Key([]byte("client"))
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	for got := 0; got < most; {
		nodetest.Eventually(tb, fmt.Sprintf("%s has slot %d", who, got+1), func() bool {
			d, err := r.Take(context.Background(), key, 1)
			return err == nil && d.Allowed
		})
		got++
	}
	if d, _ := r.Take(ctx, key, 1); d.Allowed {
		tb.Errorf("%s has a slot too many", who)
		r.Leave(key, 1)
	}
	for range most {
		r.Leave(key, 1)
	}
}

// Leave called twice, or for an unknown key, frees no slot.
func TestLeaveTwiceFreesNoSlot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ls := flat(t, 1, newFlatStore(), map[string]node.Limit{"r": inFlight(2)})
		defer closeAll(t, ls)
		r := ls[0].Rule("r")
		key := r.Key([]byte("client"))
		if !r.Occupies() {
			t.Error("requests of the rule occupy nothing")
		}
		r.Leave(r.Key([]byte("nobody")), 1)
		for range 3 {
			if d, err := r.Take(t.Context(), key, 1); err != nil || !d.Allowed {
				t.Fatalf("got %+v, %v", d, err)
			}
			r.Leave(key, 1)
			r.Leave(key, 1)
		}
		var got int
		for range 5 {
			if d, err := r.Take(t.Context(), key, 1); err != nil {
				t.Fatal(err)
			} else if d.Allowed {
				got++
			}
		}
		if _, busy, _ := r.Slots(key); got != 2 || busy != 2 {
			t.Errorf("%d passed and %d are in use, want 2", got, busy)
		}
	})
}

// Refused requests write nothing.
func TestRefusedInflightWritesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ls := flat(t, 3, newFlatStore(), map[string]node.Limit{"r": inFlight(1)})
		defer closeAll(t, ls)
		l := ls[0]
		r := l.Rule("r")
		key := r.Key([]byte("client"))
		if d, err := r.Take(t.Context(), key, 1); err != nil || !d.Allowed {
			t.Fatalf("got %+v, %v", d, err)
		}
		before := l.Stats()
		for range 10_000 { // in a second
			if d, err := r.Take(t.Context(), key, 1); err != nil || d.Allowed {
				t.Fatalf("got %+v, %v", d, err)
			}
			after(100 * time.Microsecond)
		}
		if s := l.Stats(); s.Writes != before.Writes || s.Recalls-before.Recalls > 12 {
			t.Errorf("%d writes and %d recalls for refused requests, want none and one each 100 ms",
				s.Writes-before.Writes, s.Recalls-before.Recalls)
		}
		r.Leave(key, 1)
	})
}

// A lowered limit counts at once. Requests in flight beyond it are no error.
func TestLoweredInflightLimitCountsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ls := flat(t, 1, newFlatStore(), map[string]node.Limit{"r": inFlight(10)})
		defer closeAll(t, ls)
		l := ls[0]
		key := l.Rule("r").Key([]byte("client"))
		for range 8 {
			if d, err := l.Rule("r").Take(t.Context(), key, 1); err != nil || !d.Allowed {
				t.Fatalf("got %+v, %v", d, err)
			}
		}
		l.SetRules(map[string]node.Limit{"r": inFlight(5)})
		r := l.Rule("r")
		for left := 8; left > 0; left-- {
			d, err := r.Take(t.Context(), key, 1)
			if err != nil || d.Allowed != (left < 5) {
				t.Fatalf("with %d in flight got %+v, %v", left, d, err)
			}
			if d.Allowed {
				r.Leave(key, 1)
			}
			r.Leave(key, 1)
			nodetest.Eventually(t, "the refusal is over", func() bool { // a refusal lasts for a moment
				d, err := r.Take(t.Context(), key, 1)
				if d.Allowed {
					r.Leave(key, 1)
				}
				return err == nil && d.Allowed == (left-1 < 5)
			})
		}
	})
}

// When the maximal number of keys has requests in flight, other keys are refused, and those keys keep their slots.
func TestInflightKeysAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const keys = 50
		ls := flatOn(t, []limit.ModelStore{newFlatStore()}, map[string]node.Limit{"r": inFlight(2)},
			func(c *limit.Config) {
				c.Keys = keys
			})
		defer closeAll(t, ls)
		r := ls[0].Rule("r")
		for i := range 2 * keys {
			d, err := r.Take(t.Context(), r.Key(fmt.Appendf(nil, "client %d", i)), 1)
			if d.Allowed != (i < keys) || (err == nil) != (i < keys) || (err != nil && !errors.Is(err, limit.ErrAway)) {
				t.Fatalf("key %d got %+v, %v", i, d, err)
			}
		}
		for i := range keys {
			r.Leave(r.Key(fmt.Appendf(nil, "client %d", i)), 1)
		}
		after(10 * time.Second)
		if _, _, n := r.Slots(limit.Key{}); n != 0 {
			t.Errorf("%d idle keys are in memory", n)
		}
	})
}

// flatStore keeps records in memory. Its calls take no time, for tests in synctest.
type flatStore struct {
	mu      sync.Mutex // guards what follows
	records map[limit.Key]flatRecord
	rev     uint64
	hangs   bool // answers nothing
	puts    int
}

type flatRecord struct {
	limit.Stored

	ends time.Time
}

func newFlatStore() *flatStore { return &flatStore{records: map[limit.Key]flatRecord{}} }

func (s *flatStore) Get(ctx context.Context, key limit.Key, _ bool) (limit.Stored, error) {
	if s.hang(ctx) {
		return limit.Stored{}, limit.ErrAway
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.records[key]
	if !time.Now().Before(r.ends) {
		return limit.Stored{}, nil
	}
	return r.Stored, nil
}

func (s *flatStore) Put(ctx context.Context, key limit.Key, v limit.Stored, keep time.Duration) (uint64, error) {
	if s.hang(ctx) {
		return 0, limit.ErrAway
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.records[key]
	if !time.Now().Before(r.ends) {
		r = flatRecord{}
	}
	if r.Rev != v.Rev {
		return 0, limit.ErrConflict
	}
	s.rev++
	s.puts++
	v.Rev = s.rev
	s.records[key] = flatRecord{v, time.Now().Add(keep)}
	return s.rev, nil
}

func (s *flatStore) Last(context.Context) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rev, nil
}

func (s *flatStore) Drop(_ context.Context, key limit.Key, upTo uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.records[key].Rev <= upTo {
		delete(s.records, key)
	}
	return nil
}

func (s *flatStore) hang(ctx context.Context) bool {
	s.mu.Lock()
	hangs := s.hangs
	s.mu.Unlock()
	if hangs {
		<-ctx.Done()
	}
	return hangs
}

func (s *flatStore) setHangs(hangs bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hangs = hangs
}

// flatPeers are nodes whose messages take no time.
type flatPeers struct {
	all   []*limit.Limiter
	alone bool
}

func (p *flatPeers) Nodes() int { return len(p.all) }

func (p *flatPeers) Alone() bool { return p.alone }

func (p *flatPeers) Recall(_ context.Context, w limit.RecallRequest, _ time.Duration) (out []limit.RecallReply) {
	for _, l := range p.all {
		if g, ok := l.AnswerRecall(w); ok {
			g.ReceivedAt = time.Now()
			out = append(out, g)
		}
	}
	return out
}

// cutStore is a node's connection to the store, which can be cut.
type cutStore struct {
	*flatStore

	cut atomic.Bool
}

func (s *cutStore) Get(ctx context.Context, key limit.Key, fresh bool) (limit.Stored, error) {
	if s.cut.Load() {
		return limit.Stored{}, limit.ErrNoResponder
	}
	return s.flatStore.Get(ctx, key, fresh)
}

func (s *cutStore) Put(ctx context.Context, key limit.Key, v limit.Stored, keep time.Duration) (uint64, error) {
	if s.cut.Load() {
		return 0, limit.ErrNoResponder
	}
	return s.flatStore.Put(ctx, key, v, keep)
}

// onFlat runs a test of each limit on one node and on three, in virtual time.
func onFlat(t *testing.T, limits map[string]node.Limit, test func(t *testing.T, ls []*limit.Limiter, name string)) {
	t.Helper()
	for _, nodes := range []int{1, 3} {
		for name := range limits {
			t.Run(fmt.Sprintf("%s on %d", name, nodes), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					ls := flat(t, nodes, newFlatStore(), limits)
					defer closeAll(t, ls)
					test(t, ls, name)
				})
			})
		}
	}
}

// flat opens limiters whose store and messages take no time. Use it within synctest.
func flat(tb testing.TB, n int, s *flatStore, limits map[string]node.Limit) []*limit.Limiter {
	tb.Helper()
	stores := make([]limit.ModelStore, n)
	for i := range stores {
		stores[i] = s
	}
	return flatOn(tb, stores, limits)
}

// flatOn is flat with a store for each node.
func flatOn(tb testing.TB, stores []limit.ModelStore, limits map[string]node.Limit,
	change ...func(*limit.Config),
) []*limit.Limiter {
	tb.Helper()
	peers := &flatPeers{alone: len(stores) == 1}
	for i, s := range stores {
		cfg := limit.Config{Node: fmt.Sprint("n", i+1), Log: nodetest.Discard()}
		for _, f := range change {
			f(&cfg)
		}
		l := limit.NewModel(cfg, s, peers)
		l.SetRules(limits)
		peers.all = append(peers.all, l)
	}
	for _, l := range peers.all {
		if err := l.Open(tb.Context()); err != nil {
			tb.Fatal(err)
		}
	}
	return peers.all
}

func closeAll(tb testing.TB, ls []*limit.Limiter) {
	tb.Helper()
	for _, l := range ls {
		if err := l.Close(); err != nil {
			tb.Error(err)
		}
	}
}

// takeSlots asks for a slot n times and returns how many it got.
func takeSlots(tb testing.TB, r *limit.Rule, n int) (got int) {
	tb.Helper()
	for range n {
		d, err := r.Take(tb.Context(), r.Key([]byte("client")), 1)
		if err != nil {
			tb.Fatal(err)
		}
		if d.Allowed {
			got++
		}
	}
	return got
}

// The slots of a dead node become free after 15 seconds and not before. A live node keeps its slots.
func TestSlotsOfDeadNodeExpire(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ls := flat(t, 2, newFlatStore(), map[string]node.Limit{"r": inFlight(4)})
		defer closeAll(t, ls)
		a, b := ls[0].Rule("r"), ls[1].Rule("r")
		if got := takeSlots(t, a, 3); got != 3 {
			t.Fatalf("node a has %d slots, want 3", got)
		}
		if got := takeSlots(t, b, 4); got != 1 {
			t.Fatalf("node b has %d slots, want 1", got)
		}
		after(10 * limit.SlotLeaseTime)
		if got := takeSlots(t, b, 4); got != 0 {
			t.Fatalf("node b took %d slots of a node that lives", got)
		}
		if err := ls[0].Close(); err != nil { // as if it had been killed: its slots stay in the record
			t.Fatal(err)
		}
		after(limit.SlotLeaseTime - 4*time.Second) // it renewed them at most 3 s before
		if got := takeSlots(t, b, 4); got != 0 {
			t.Errorf("node b has %d slots early", got)
		}
		after(5 * time.Second)
		if got := takeSlots(t, b, 4); got != 3 {
			t.Errorf("node b has %d slots of the dead node, want 3", got)
		}
	})
}

// A node that is cut off stops using its slots before other nodes get them.
func TestCutOffNodeStopsUsingSlots(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newFlatStore()
		ls := flat(t, 1, s, map[string]node.Limit{"r": inFlight(4)})
		defer closeAll(t, ls)
		r := ls[0].Rule("r")
		if got := takeSlots(t, r, 4); got != 4 {
			t.Fatalf("%d slots, want 4", got)
		}
		key := r.Key([]byte("client"))
		r.Leave(key, 2)
		s.setHangs(true)
		after(8 * time.Second)
		if d, err := r.Take(t.Context(), key, 1); err != nil || !d.Allowed {
			t.Errorf("8 s after the cut got %+v, %v", d, err)
		}
		after(5 * time.Second)
		if d, err := r.Take(t.Context(), key, 1); !errors.Is(err, limit.ErrAway) {
			t.Errorf("13 s after the cut got %+v, %v", d, err)
		}
		s.setHangs(false)
		after(5 * time.Second)
		if got := takeSlots(t, r, 4); got != 1 {
			t.Errorf("%d slots were free after the cut, want 1", got)
		}
	})
}

// A node returns after others have taken its slots over. It finishes its requests and starts no others in their slots.
func TestSlotsTakenOverAreNotUsedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newFlatStore()
		way := &cutStore{flatStore: s}
		ls := flatOn(t, []limit.ModelStore{way, s}, map[string]node.Limit{"r": inFlight(4)})
		defer closeAll(t, ls)
		a, b := ls[0].Rule("r"), ls[1].Rule("r")
		key := a.Key([]byte("client"))
		if got := takeSlots(t, a, 2); got != 2 {
			t.Fatalf("node a has %d slots, want 2", got)
		}
		way.cut.Store(true)
		after(20 * time.Second)
		if got := takeSlots(t, b, 5); got != 4 {
			t.Fatalf("node b has %d slots, want 4", got)
		}
		way.cut.Store(false)
		after(5 * time.Second)
		a.Leave(key, 1)
		if got := takeSlots(t, a, 1); got != 0 {
			t.Error("node a began a request while four others were in flight")
		}
		a.Leave(key, 1)
		b.Leave(key, 1)
		after(time.Second)
		if got := takeSlots(t, a, 2); got != 1 {
			t.Errorf("node a has %d slots, want the one that is free", got)
		}
	})
}

// Unused slots go to the node that asks, and leave the record when nobody uses them.
func TestIdleSlotsAreReturned(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ls := flat(t, 3, newFlatStore(), map[string]node.Limit{"r": inFlight(20)})
		defer closeAll(t, ls)
		r := ls[0].Rule("r")
		key := r.Key([]byte("client"))
		if got := takeSlots(t, r, 21); got != 20 {
			t.Fatalf("%d slots, want 20", got)
		}
		r.Leave(key, 20)
		var got int
		for range 100 { // a refusal lasts 100 ms
			got += takeSlots(t, ls[1].Rule("r"), 20)
			after(100 * time.Millisecond)
		}
		if got != 20 {
			t.Errorf("another node has %d slots, want all 20", got)
		}
		ls[1].Rule("r").Leave(key, 20)
		after(10 * time.Second)
		for i, l := range ls {
			if held, busy, keys := l.Rule("r").Slots(key); held != 0 || busy != 0 || keys != 0 {
				t.Errorf("node %d has %d slots, %d in use, and knows %d keys, after nobody asked for 10 s", i+1, held,
					busy, keys)
			}
		}
		if value, _, _ := ls[0].Get(key); len(limit.DecodeLeases(value, time.Now())) != 0 {
			t.Errorf("the record says %s", value)
		}
	})
}

// A store that doesn't answer blocks only the requests that need it.
func TestHangingStoreBlocksNothingElse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newFlatStore()
		ls := flat(t, 1, s, map[string]node.Limit{"r": inFlight(4), "window": rule("5/1s")})
		defer closeAll(t, ls)
		if got := takeSlots(t, ls[0].Rule("r"), 1) + takeSlots(t, ls[0].Rule("window"), 1); got != 2 {
			t.Fatalf("%d passed, want 2", got)
		}
		s.setHangs(true)
		after(2 * time.Minute)
		if n := ls[0].Stats().Keys; n != 0 {
			t.Errorf("%d entries of windows that have ended are in memory", n)
		}
		s.setHangs(false)
		after(5 * time.Second)
		if held, busy, _ := ls[0].Rule("r").Slots(ls[0].Rule("r").Key([]byte("client"))); held != 1 || busy != 1 {
			t.Errorf("the node has %d slots, %d in use, want 1", held, busy)
		}
	})
}

func FuzzReadHolders(f *testing.F) {
	f.Add([]byte(`{"n1":{"n":3,"u":99999999999999}}`))
	f.Add([]byte(`null`))
	f.Add([]byte(`{"n1":{"n":-3}}`))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, value []byte) {
		if got := limit.DecodeLeases(value, time.Unix(0, 0)); got == nil {
			t.Error("no record at all")
		}
	})
}
