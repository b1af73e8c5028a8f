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

	"millrace/embedded/natsserver/natsservertest"
	"millrace/kvcache/limit"
	"millrace/node"
	"millrace/node/nodetest"
)

// spentIs waits until all nodes report that much as spent, since a lease may be on its way, and returns the last node's
// usage. Unless it is certain that no permit got lost, it may be more.
func spentIs(tb testing.TB, ls []*limit.Limiter, name, client string, want int, certain bool) (u limit.Usage) {
	tb.Helper()
	for i, l := range ls {
		r := l.Rule(name)
		nodetest.Eventually(tb, fmt.Sprintf("node %d knows what was spent", i+1), func() (known bool) {
			var err error
			if u, err = r.Usage(tb.Context(), r.Key([]byte(client))); err != nil {
				tb.Fatal(err)
			}
			off := int(u.Spent) - want // a bucket fills all the time
			return off == 0 || (off > 0 && !certain) ||
				(off == -1 && want > 0 && r.Limit.Algorithm == node.AlgorithmBucket)
		})
		if u.Spent+u.Held > u.Limit {
			tb.Errorf("node %d knows of more than there is: %+v", i+1, u)
		}
	}
	return u
}

// allowances are limits of all kinds that count over time.
func allowances() map[string]node.Limit {
	algorithm := func(a node.Algorithm) func(*node.Limit) { return func(l *node.Limit) { l.Algorithm = a } }
	return map[string]node.Limit{
		"first": rule("100/1h"), "clock": rule("100/744h", func(l *node.Limit) {
			l.Align = node.AlignClock
		}), "month": rule("100/month"),
		"sliding": rule("100/1h", algorithm(node.AlgorithmSliding)),
		"bucket":  rule("100/744h", algorithm(node.AlgorithmBucket)),
		"burst":   rule("10/744h", burst(100)),
	}
}

// What any node has spent, all nodes report. A client that is reset has its whole allowance again on every node.
func TestUsageAndReset(t *testing.T) {
	t.Parallel()
	onFlat(t, allowances(), spendAndReset)
}

// The same with a store whose first reads return the record before the newest.
func TestUsageAndResetOverLaggingReplicas(t *testing.T) {
	t.Parallel()
	for name := range allowances() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &laggingStore{flatStore: newFlatStore(), before: map[limit.Key]limit.Stored{}}
				ls := flatOn(t, []limit.ModelStore{s, s, s}, allowances())
				defer closeAll(t, ls)
				spendAndReset(t, ls, name)
			})
		})
	}
}

// laggingStore returns the previous record to reads that needn't be fresh.
type laggingStore struct {
	*flatStore

	mu     sync.Mutex // guards before
	before map[limit.Key]limit.Stored
}

func (s *laggingStore) Get(ctx context.Context, key limit.Key, fresh bool) (limit.Stored, error) {
	if fresh {
		return s.flatStore.Get(ctx, key, true)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.before[key], nil
}

func (s *laggingStore) Put(ctx context.Context, key limit.Key, v limit.Stored, keep time.Duration) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, err := s.flatStore.Get(ctx, key, true)
	if err != nil {
		return 0, err
	}
	rev, err := s.flatStore.Put(ctx, key, v, keep)
	if err == nil {
		s.before[key] = before
	}
	return rev, err
}

// The same over NATS.
func TestUsageAndResetOverThreeNodes(t *testing.T) { // not parallel: three servers need the machine
	limits := map[string]node.Limit{"first": rule("100/1h"), "bucket": rule("100/744h", burst(100))}
	ls := three(t, limits)
	for name := range limits {
		spendAndReset(t, ls, name)
	}
}

// passes counts allowed requests. On a busy machine the store may not answer in time, and permits get lost: then it is
// only certain that no more pass.
func passes(tb testing.TB, ls []*limit.Limiter, name, client string, n int) (passed int, certain bool) {
	tb.Helper()
	var next, allowed, away atomic.Int64
	var workers sync.WaitGroup
	for range 32 {
		workers.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				r := ls[int(i)%len(ls)].Rule(name)
				d, err := r.Take(context.Background(), r.Key([]byte(client)), 1)
				switch {
				case errors.Is(err, limit.ErrAway):
					away.Add(1)
				case err != nil:
					tb.Errorf("request %d: %v", i, err)
				case d.Allowed:
					allowed.Add(1)
				}
			}
		})
	}
	workers.Wait()
	if away.Load() > 0 {
		tb.Logf("%s: the store didn't answer %d requests, so that permits may be lost: only that no more pass is "+
			"checked", name, away.Load())
	}
	return int(allowed.Load()), away.Load() == 0
}

func spendAndReset(t *testing.T, ls []*limit.Limiter, name string) {
	t.Helper()
	const all = 100
	least := all
	if ls[0].Rule(name).Limit.Algorithm == node.AlgorithmBucket && len(ls) > 1 {
		least-- // the last permit may come a little late
	}
	certain := true
	ask := func(ls []*limit.Limiter, client string, n int) int {
		got, c := passes(t, ls, name, client, n)
		certain = certain && c
		return got
	}
	spent := 0
	for i, l := range ls {
		spent += ask([]*limit.Limiter{l}, "client", 10+i)
	}
	if u := spentIs(t, ls, name, "client", spent, certain); u.Limit != all || time.Until(u.Resets) <= 0 {
		t.Errorf("%s: after %d: %+v", name, spent, u)
	}
	if spent += ask(ls, "client", 3*all); spent > all || (certain && spent < least) {
		t.Errorf("%s: %d passed, want %d", name, spent, all)
	}
	spentIs(t, ls, name, "client", spent, certain)
	for range 2 {
		certain = true
		r := ls[len(ls)-1].Rule(name)
		if err := r.Reset(t.Context(), r.Key([]byte("client"))); err != nil {
			t.Fatal(err)
		}
		if u := spentIs(t, ls, name, "client", 0, true); u.Held != 0 {
			t.Errorf("%s: after the reset: %+v", name, u)
		}
		if got := ask(ls, "client", 3*all); got > all || (certain && got < least) {
			t.Errorf("%s: %d passed after the reset, want %d", name, got, all)
		}
	}
	// In the middle of a window nodes hold permits. Those on their way may get lost.
	r := ls[0].Rule(name)
	ask(ls, "other", all/5)
	if err := r.Reset(t.Context(), r.Key([]byte("other"))); err != nil {
		t.Fatal(err)
	}
	if got := ask(ls, "other", 3*all); got > all || (certain && got < all-all/5) {
		t.Errorf("%s: %d passed after a reset in the middle, want %d", name, got, all)
	}
	if err := r.Reset(t.Context(), r.Key([]byte("nobody"))); err != nil {
		t.Errorf("%s: the reset of an unknown client: %v", name, err)
	}
	if u := spentIs(t, ls, name, "nobody", 0, true); u != (limit.Usage{Limit: all}) {
		t.Errorf("%s: of an unknown client: %+v", name, u)
	}
}

// Permits of shares count as spent and held like others.
func TestUsageOfShares(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ls, _ := openOn(t, 3, 3, map[string]node.Limit{"r": shareLimit("60/1h")})
		defer closeAll(t, ls)
		after(time.Hour + time.Second)
		for i, l := range ls {
			if got := spend(t, l, "client", 2+i); got != 2+i {
				t.Fatalf("node %d: %d passed", i+1, got)
			}
		}
		if u := spentIs(t, ls, "r", "client", 9, true); u.Resets != time.Unix(0,
			time.Now().UnixNano()).Truncate(time.Hour).Add(time.Hour) {
			t.Errorf("after 9: %+v", u)
		}
		got := 0
		for _, l := range ls {
			got += spend(t, l, "client", 100)
		}
		if u := spentIs(t, ls, "r", "client", 60, true); got != 51 || u.Held != 0 {
			t.Errorf("after 9 and %d: %+v", got, u)
		}
		r := ls[1].Rule("r")
		if err := r.Reset(t.Context(), r.Key([]byte("client"))); err != nil {
			t.Fatal(err)
		}
		spentIs(t, ls, "r", "client", 0, true)
		if got := spend(t, ls[2], "client", 100); got != 60 {
			t.Errorf("%d passed after the reset, want 60", got)
		}
	})
}

// Running requests count as spent, and unused slots of nodes as held.
func TestUsageOfInflightRequests(t *testing.T) { // not parallel: three servers need the machine
	limits := map[string]node.Limit{"r": inFlight(9)}
	for where, ls := range map[string][]*limit.Limiter{
		"alone": {open(t, natsservertest.Start(t), "n1", limits)},
		"three": three(t, limits),
	} {
		key := ls[0].Rule("r").Key([]byte("client"))
		for i, l := range ls {
			for range 2 {
				nodetest.Eventually(t, fmt.Sprintf("%s: node %d has a slot", where, i+1), func() bool {
					d, err := l.Rule("r").Take(t.Context(), key, 1)
					return err == nil && d.Allowed
				})
			}
		}
		if u := spentIs(t, ls, "r", "client", 2*len(ls), true); u.Limit != 9 {
			t.Errorf("%s: with %d in flight: %+v", where, 2*len(ls), u)
		}
		for _, l := range ls {
			l.Rule("r").Leave(key, 2)
		}
		spentIs(t, ls, "r", "client", 0, true)
		if err := ls[0].Rule("r").Reset(t.Context(), key); err != nil {
			t.Error(err)
		}
	}
}
