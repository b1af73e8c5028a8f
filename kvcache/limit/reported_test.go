package limit_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"millrace/embedded/natsserver/natsservertest"
	"millrace/kvcache/limit"
	"millrace/node"
	"millrace/node/nodetest"
)

// A small bucket gives its whole burst at the start, whichever nodes are asked, except for the time that a slow store
// takes.
func TestSmallBucketGivesItsBurst(t *testing.T) {
	t.Parallel()
	for _, most := range []int{1, 2, 3, 5, 10, 100} {
		synctest.Test(t, func(t *testing.T) {
			lim := rule(fmt.Sprintf("%d/1h", most), func(l *node.Limit) { l.Algorithm = node.AlgorithmBucket })
			ls := flat(t, 3, newFlatStore(), map[string]node.Limit{"r": lim})
			defer closeAll(t, ls)
			got := 0
			for i := range 6 * most {
				if i == 3*most {
					after(time.Second)
				}
				n, _ := passes(t, ls[i%3:i%3+1], "r", "client", 1)
				got += n
			}
			if got != most {
				t.Errorf("%d passed, want %d", got, most)
			}
		})
	}
}

// A permit refunded after others were spent doesn't let two requests pass at once where one may.
func TestRefundOfBucketExceedsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ls := flat(t, 1, newFlatStore(), map[string]node.Limit{"r": rule("10/1s", burst(1))})
		defer closeAll(t, ls)
		r := ls[0].Rule("r")
		key := r.Key([]byte("client"))
		next := func() limit.Decision {
			d, err := r.Take(t.Context(), key, 1)
			if err != nil || !d.Allowed {
				t.Fatalf("got %+v, %v", d, err)
			}
			return d
		}
		for range 5 { // until the node leases ahead
			next()
			after(100 * time.Millisecond)
		}
		first := next()
		after(100 * time.Millisecond)
		next()
		r.Refund(time.Now(), key, first, 1)
		if third, err := r.Take(t.Context(), key, 1); err != nil || third.Allowed {
			t.Errorf("right after the second got %+v, %v", third, err)
		}
	})
}

// A record that can't be read blocks its own key, and no other.
func TestUnreadableRecordBlocksOnlyItsKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ls := flat(t, 1, newFlatStore(), map[string]node.Limit{"r": rule("10/1h")})
		defer closeAll(t, ls)
		r := ls[0].Rule("r")
		if _, err := ls[0].Put(r.Key([]byte("bad")), []byte("from the future"), 0, time.Hour); err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			if _, err := r.Take(t.Context(), r.Key([]byte("bad")), 1); !errors.Is(err, limit.ErrAway) {
				t.Errorf("the key of the record got %v", err)
			}
			if d, err := r.Take(t.Context(), r.Key(fmt.Appendf(nil, "good %d", i)), 1); err != nil || !d.Allowed {
				t.Errorf("another key got %+v, %v", d, err)
			}
		}
	})
}

// Queued requests are counted once, by their outcome.
func TestQueueStatsCountEachRequestOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ls := flat(t, 1, newFlatStore(), map[string]node.Limit{"r": rule("1/10s", queued(30*time.Second, 1))})
		defer closeAll(t, ls)
		c := newCrowd(ls[0].Rule("r"))
		ctx, cancel := context.WithCancel(t.Context())
		c.send(ctx, 0) // passes
		synctest.Wait()
		c.send(ctx, 1) // waits, and disconnects
		synctest.Wait()
		c.send(ctx, 2) // finds the queue full
		synctest.Wait()
		cancel()
		c.all(t)
		if s := c.rule.Stats(); s.Allowed != 1 || s.Denied != 1 || s.Away != 0 {
			t.Errorf("%+v, want one allowed, one denied and none of a store that is away", s)
		}
	})
}

// Try doesn't overtake queued requests.
func TestTryDoesNotOvertakeQueue(t *testing.T) {
	t.Parallel()
	l := open(t, natsservertest.Start(t), "n1",
		map[string]node.Limit{"r": rule("50/500ms", queued(30*time.Second, 1000))})
	c := newCrowd(l.Rule("r"))
	ctx, cancel := context.WithCancel(t.Context())
	for n := range 400 {
		c.send(ctx, n)
	}
	nodetest.Eventually(t, "a line", func() bool { n, _ := c.rule.Waiting(); return n > 300 })
	past := 0
	for n := 400; n > 240; n, _ = c.rule.Waiting() {
		if d, ok := c.rule.Try(time.Now(), c.key, 1); ok && d.Allowed {
			past++
		}
	}
	cancel()
	c.all(t)
	if past > 0 {
		t.Errorf("%d went past those who wait", past)
	}
}

// A key costs at most 100 bytes. Not parallel, since other tests allocate.
func TestMemoryPerKey(t *testing.T) {
	const keys, most = 1_000_000, 100
	if got := heapPerKey(keys); got > most {
		t.Errorf("a key costs %.1f bytes, want at most %d", got, most)
	} else {
		t.Logf("a key costs %.1f bytes", got)
	}
}
