package limit_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"millrace/kvcache/limit"
	"millrace/node"
)

// lossyFirstStore loses the reply to the first write of each revision of a key.
type lossyFirstStore struct {
	*flatStore

	mu   sync.Mutex // guards lost
	lost map[limit.Key]uint64
}

func (s *lossyFirstStore) Put(ctx context.Context, key limit.Key, v limit.Stored, keep time.Duration) (uint64, error) {
	rev, err := s.flatStore.Put(ctx, key, v, keep)
	s.mu.Lock()
	before, again := s.lost[key]
	loses := !again || before != v.Rev
	s.lost[key] = v.Rev
	s.mu.Unlock()
	if loses {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	return rev, err
}

func algorithm(a node.Algorithm) func(*node.Limit) { return func(l *node.Limit) { l.Algorithm = a } }

// A write whose reply was lost takes effect: the node retries and recognizes its own record. No permit is lost and no
// request fails.
func TestLostRepliesCostNothing(t *testing.T) {
	t.Parallel()
	for name, lim := range map[string]node.Limit{
		"fixed": rule("20/1h"), "sliding": rule("20/1h", algorithm(node.AlgorithmSliding)),
		"bucket": rule("20/100h", algorithm(node.AlgorithmBucket)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &lossyFirstStore{flatStore: newFlatStore(), lost: map[limit.Key]uint64{}}
				ls := flatOn(t, []limit.ModelStore{s},
					map[string]node.Limit{"r": lim})
				defer closeAll(t, ls)
				r := ls[0].Rule("r")
				key := r.Key([]byte("client"))
				got := 0
				for range 30 {
					d, err := r.Take(t.Context(), key, 1)
					if err != nil {
						t.Fatalf("after %d got %v", got, err)
					}
					if d.Allowed {
						got++
					}
				}
				if got != 20 {
					t.Errorf("%d passed, want 20", got)
				}
			})
		})
	}
}

// Requests wait during a short outage of the store. During a longer one they don't, until the store is back.
func TestShortOutageIsWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ls, cuts := openOn(t, 1, 1, map[string]node.Limit{"r": rule("1000/1h"), "c": inFlight(10)})
		defer closeAll(t, ls)
		clients := 0
		ask := func(name string) (took time.Duration, err error) {
			t.Helper()
			begun := time.Now()
			r := ls[0].Rule(name)
			clients++
			d, err := r.Take(t.Context(), r.Key([]byte{byte(clients)}), 1)
			if err == nil && !d.Allowed {
				t.Error("a new client was refused")
			}
			return time.Since(begun), err
		}
		for _, name := range []string{"r", "c"} {
			cuts[0].cut.Store(true)
			time.AfterFunc(time.Second, func() { cuts[0].cut.Store(false) })
			if took, err := ask(name); err != nil || took < time.Second || took > limit.Patience {
				t.Errorf("%s: a moment's outage: %v after %s", name, err, took)
			}
			cuts[0].cut.Store(true)
			if took, err := ask(name); !errors.Is(err, limit.ErrAway) || took != limit.Patience {
				t.Errorf("%s: a long outage: %v after %s", name, err, took)
			}
			for range 3 {
				if took, err := ask(name); !errors.Is(err, limit.ErrAway) || took > 0 {
					t.Errorf("%s: when it is known: %v after %s", name, err, took)
				}
			}
			cuts[0].cut.Store(false)
			after(time.Second)
			if took, err := ask(name); err != nil || took > 0 {
				t.Errorf("%s: afterwards: %v after %s", name, err, took)
			}
		}
	})
}

// A request that is let through anyway waits only briefly for a store that is away.
func TestOpenLimitWaitsLessForStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ls, cuts := openOn(t, 1, 1, map[string]node.Limit{"r": rule("10/1h", func(l *node.Limit) {
			l.StoreAway = node.StoreAwayOpen
		})})
		defer closeAll(t, ls)
		r := ls[0].Rule("r")
		cuts[0].cut.Store(true)
		begun := time.Now()
		if _, err := r.Take(t.Context(), r.Key([]byte("client")), 1); !errors.Is(err, limit.ErrAway) ||
			time.Since(begun) != 500*time.Millisecond {
			t.Errorf("got %v after %s", err, time.Since(begun))
		}
	})
}

// What a node holds of a bucket and couldn't return while the store was away, it still has afterwards.
func TestOutageLosesNoPermits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ls, cuts := openOn(t, 1, 1, map[string]node.Limit{"r": rule("20/1000h", algorithm(node.AlgorithmBucket))})
		defer closeAll(t, ls)
		r := ls[0].Rule("r")
		key := r.Key([]byte("client"))
		got := spend(t, ls[0], "client", 1)
		cuts[0].cut.Store(true)
		if d, err := r.Take(t.Context(), key, 19); d.Allowed {
			got += 19
		} else if !errors.Is(err, limit.ErrAway) {
			t.Errorf("got %+v, %v", d, err)
		}
		cuts[0].cut.Store(false)
		after(time.Second)
		if got += spend(t, ls[0], "client", 30); got != 20 {
			t.Errorf("%d passed, want 20", got)
		}
	})
}

// A queued request waits for the store as well, until its wait is over.
func TestQueueWaitsForStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ls, cuts := openOn(t, 1, 1, map[string]node.Limit{"r": rule("1/1s", queued(5*time.Second, 10), burst(10))})
		defer closeAll(t, ls)
		r := ls[0].Rule("r")
		for _, lasts := range []time.Duration{time.Second, 4 * time.Second, 10 * time.Second} {
			cuts[0].cut.Store(true)
			time.AfterFunc(lasts, func() { cuts[0].cut.Store(false) })
			var all sync.WaitGroup
			for i := range 2 {
				all.Go(func() {
					begun := time.Now()
					d, err := r.Take(t.Context(), r.Key([]byte(lasts.String())), 1)
					took := time.Since(begun)
					if lasts < 5*time.Second &&
						(err != nil || !d.Allowed || took < lasts || took > lasts+1100*time.Millisecond) {
						t.Errorf("request %d of an outage of %s got %+v, %v after %s", i, lasts, d, err, took)
					}
					if lasts > 5*time.Second &&
						(!errors.Is(err, limit.ErrAway) || took < 5*time.Second || took > 7*time.Second) {
						t.Errorf("request %d of an outage of %s got %+v, %v after %s", i, lasts, d, err, took)
					}
				})
			}
			all.Wait()
			after(20 * time.Second)
		}
	})
}
