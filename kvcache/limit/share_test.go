package limit_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"millrace/kvcache/limit"
	"millrace/node"
	"millrace/node/nodetest"
)

// shareLimit returns a limit with store_away: share, on the clock: half of it is divided into shares.
func shareLimit(short string) node.Limit {
	return rule(short, func(l *node.Limit) { l.Align, l.StoreAway = node.AlignClock, node.StoreAwayShare })
}

// openOn opens limiters that each have their own connection to one store.
func openOn(tb testing.TB, n, shares int, limits map[string]node.Limit) ([]*limit.Limiter, []*cutStore) {
	tb.Helper()
	s := newFlatStore()
	cuts, stores := make([]*cutStore, n), make([]limit.ModelStore, n)
	for i := range cuts {
		cuts[i] = &cutStore{flatStore: s}
		stores[i] = cuts[i]
	}
	return flatOn(tb, stores, limits, func(c *limit.Config) { c.Slots = shares }), cuts
}

// shareHolders returns which node holds which share number, and fails if two nodes use the same.
func shareHolders(tb testing.TB, ls []*limit.Limiter) map[int64]int {
	tb.Helper()
	out := map[int64]int{}
	for i, l := range ls {
		n := l.ShareNumber()
		if n == 0 {
			continue
		}
		if other, taken := out[n]; taken {
			tb.Errorf("nodes %d and %d both hold share number %d", other+1, i+1, n)
		}
		out[n] = i
	}
	return out
}

// Each node holds its own share number. The number of a dead node goes to another, and so does that of a node that is
// cut off, but not before that node has stopped using it.
func TestShareNumbersAreExclusive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ls, cuts := openOn(t, 4, 3, map[string]node.Limit{"r": shareLimit("60/10s")})
		defer closeAll(t, ls)
		watch := func(d time.Duration, until func() bool) time.Duration {
			for spent := time.Duration(0); spent < d; spent += 100 * time.Millisecond {
				after(100 * time.Millisecond)
				if shareHolders(t, ls); until() {
					return spent
				}
			}
			return d
		}
		never := func() bool { return false }
		watch(time.Minute, never)
		before := shareHolders(t, ls)
		if len(before) != 3 {
			t.Fatalf("%v, want three numbers to be held", before)
		}
		without := 6 - before[1] - before[2] - before[3]
		cut := before[1]
		cuts[cut].cut.Store(true)
		took := watch(time.Minute, func() bool { return ls[without].ShareNumber() == 1 })
		if took < 12*time.Second || took > 20*time.Second {
			t.Errorf("a share number was taken over after %s", took)
		}
		cuts[cut].cut.Store(false)
		watch(time.Minute, never)
		if n := ls[cut].ShareNumber(); n != 0 {
			t.Errorf("the node that was cut off has share number %d", n)
		}
		dead := shareHolders(t, ls)[2]
		if err := ls[dead].Close(); err != nil {
			t.Fatal(err)
		}
		if took := watch(time.Minute, func() bool { return ls[cut].ShareNumber() == 2 }); took > 20*time.Second {
			t.Errorf("a dead node's share number was taken over after %s", took)
		}
	})
}

// lossyStore loses all replies while loses is set.
type lossyStore struct {
	*flatStore

	loses atomic.Bool
}

func (s *lossyStore) Get(ctx context.Context, key limit.Key, fresh bool) (limit.Stored, error) {
	v, err := s.flatStore.Get(ctx, key, fresh)
	if s.loses.Load() {
		return limit.Stored{}, limit.ErrAway
	}
	return v, err
}

func (s *lossyStore) Put(ctx context.Context, key limit.Key, v limit.Stored, keep time.Duration) (uint64, error) {
	rev, err := s.flatStore.Put(ctx, key, v, keep)
	if s.loses.Load() {
		return 0, limit.ErrAway
	}
	return rev, err
}

// A node keeps its share number when replies get lost for a shorter time than it lasts.
func TestShareNumberSurvivesLostReplies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &lossyStore{flatStore: newFlatStore()}
		ls := flatOn(t, []limit.ModelStore{s}, map[string]node.Limit{"r": shareLimit("60/10s")}, func(c *limit.Config) {
			c.Slots = 3
		})
		defer closeAll(t, ls)
		for range 5 {
			after(5 * time.Second)
			if n := ls[0].ShareNumber(); n != 1 {
				t.Fatalf("the node has share number %d, want 1", n)
			}
			s.loses.Store(true)
			after(3 * time.Second)
			s.loses.Store(false)
		}
	})
}

// Without a limit that has shares, no node takes a share number.
func TestNoShareNumberWithoutShares(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newFlatStore()
		ls := flat(t, 1, s, map[string]node.Limit{"r": rule("60/10s"), "tiny": shareLimit("1/10s")})
		defer closeAll(t, ls)
		after(10 * time.Second)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.puts != 0 || ls[0].ShareNumber() != 0 {
			t.Errorf("%d writes, and share number %d", s.puts, ls[0].ShareNumber())
		}
	})
}

// spend asks a node, which may be cut off from the store, for n permits of a key, and returns how many it got.
func spend(tb testing.TB, l *limit.Limiter, client string, n int) (got int) {
	tb.Helper()
	r := l.Rule("r")
	key := r.Key([]byte(client))
	ctx, cancel := context.WithTimeout(tb.Context(), 200*time.Millisecond)
	defer cancel()
	for range n {
		d, ok := r.Try(time.Now(), key, 1)
		if !ok {
			var err error
			if d, err = r.Take(ctx, key, 1); err != nil && !errors.Is(err, limit.ErrAway) && ctx.Err() == nil {
				tb.Error(err)
			}
		}
		if d.Allowed {
			got++
		}
	}
	return got
}

// A node that is cut off from the store spends its own share, once in each window that began after it got its number.
// The others get all the rest.
func TestCutOffNodeSpendsItsShareOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const most, part = 60, 10
		ls, cuts := openOn(t, 3, 3, map[string]node.Limit{"r": shareLimit("60/10s")})
		defer closeAll(t, ls)
		if into := time.Duration(time.Now().UnixNano()) % (10 * time.Second); into != 0 {
			t.Fatalf("the test begins %s into a window", into)
		}
		after(5 * time.Second) // the numbers are held, but the window is older
		cuts[0].cut.Store(true)
		if got := spend(t, ls[0], "client", most); got != 0 {
			t.Errorf("%d passed of a window that began before the share number was the node's", got)
		}
		cuts[0].cut.Store(false)
		for window := range 5 {
			after(10 * time.Second)
			cuts[0].cut.Store(true)
			alone := spend(t, ls[0], "client", most)
			if alone != part {
				t.Errorf("window %d: %d passed at the node that is cut off, want %d", window, alone, part)
			}
			rest := spend(t, ls[1], "client", 2*most) + spend(t, ls[2], "client", 2*most)
			if rest != most-part {
				t.Errorf("window %d: %d passed at the others, want %d", window, rest, most-part)
			}
			cuts[0].cut.Store(false)
		}
		// With the store and all nodes there, one node can spend everything, the others' shares included.
		after(10 * time.Second)
		if got := spend(t, ls[2], "client", 2*most); got != most {
			t.Errorf("%d passed, want %d", got, most)
		}
		// A share costs no operation of the store.
		after(10 * time.Second)
		before := operations(ls)
		for i, l := range ls {
			for _, client := range []string{"a", "b", "c"} {
				if got := spend(t, l, client, part); got != part {
					t.Errorf("node %d had %d permits of its own for client %s, want %d", i+1, got, client, part)
				}
			}
		}
		if n := operations(ls) - before; n != 0 {
			t.Errorf("%d reads and writes for permits that the nodes had", n)
		}
	})
}

// A lease that is requested in one window and arrives in the next leaves the node its share of the next window.
func TestLateLeaseKeepsNextShare(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const most, window, slow = 60, 10 * time.Second, 20 * time.Millisecond
		s := &slowStore{flatStore: newFlatStore()}
		ls := flatOn(t, []limit.ModelStore{s, s}, map[string]node.Limit{"r": shareLimit("60/10s")},
			func(c *limit.Config) { c.Slots = 2 })
		defer closeAll(t, ls)
		after(window) // the share numbers are held
		if got := spend(t, ls[0], "client", 2*most); got != most {
			t.Fatalf("%d passed, want %d", got, most)
		}
		after(window - time.Duration(time.Now().UnixNano())%window - slow/2)
		s.slow.Store(int64(slow))
		got := spend(t, ls[0], "client", 1)
		s.slow.Store(0)
		if into := time.Duration(time.Now().UnixNano()) % window; into > window/2 {
			t.Fatalf("the question ended before the window did: %s", into)
		}
		for _, l := range ls {
			got += spend(t, l, "client", 2*most)
		}
		if got != most {
			t.Errorf("%d passed in the next window, want %d", got, most)
		}
	})
}

// slowStore delays reads.
type slowStore struct {
	*flatStore

	slow atomic.Int64 // in nanoseconds
}

func (s *slowStore) Get(ctx context.Context, key limit.Key, fresh bool) (limit.Stored, error) {
	after(time.Duration(s.slow.Load()))
	return s.flatStore.Get(ctx, key, fresh)
}

// When most clocks set the time back, a window whose share was spent and forgotten doesn't begin again.
func TestTimeSetBackGivesNoShareTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var back atomic.Int64
		clock := func() time.Time { return time.Now().Add(-time.Duration(back.Load())) }
		s := &cutStore{flatStore: newFlatStore()}
		l := limit.NewModel(limit.Config{Node: "n1", Log: nodetest.Discard(), Clock: clock}, s,
			&flatPeers{alone: true})
		l.SetRules(map[string]node.Limit{"r": shareLimit("60/20s")})
		if err := l.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer closeAll(t, []*limit.Limiter{l})
		after(39 * time.Second)
		s.cut.Store(true)
		before := spendNow(t, l, 60)
		after(1001 * time.Millisecond)
		// The next window begins, and the entry of the previous one is forgotten.
		for range 15 * time.Second / (100 * time.Millisecond) {
			after(100 * time.Millisecond)
			if l.Stats().Keys == 0 {
				break
			}
		}
		if l.Stats().Keys != 0 {
			t.Fatal("the entry wasn't forgotten")
		}
		set := time.Duration(time.Now().UnixNano())%(20*time.Second) + 12*time.Second
		back.Store(int64(set))
		after(8 * time.Second) // a node that has just started follows its clock soon
		if d := time.Since(l.Time()); (d - set).Abs() > 100*time.Millisecond {
			t.Fatalf("the time is %s behind, want %s", d, set)
		}
		again := spendNow(t, l, 60)
		if before != 30 || again != 0 {
			t.Errorf("%d passed, and %d in the same window after the clock was set back; want 30 and none", before,
				again)
		}
	})
}

func spendNow(tb testing.TB, l *limit.Limiter, n int) (got int) {
	tb.Helper()
	r := l.Rule("r")
	for range n {
		if d, ok := r.Try(time.Now(), r.Key([]byte("client")), 1); ok && d.Allowed {
			got++
		}
	}
	return got
}
