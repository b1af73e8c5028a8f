package limit_test

import (
	"fmt"
	"testing"
	"testing/synctest"

	"millrace/kvcache/limit"
	"millrace/node"
)

// A node that stops returns what it has leased, so that another node can use all that wasn't spent.
func TestStopReturnsPermits(t *testing.T) {
	t.Parallel()
	limits := map[string]node.Limit{
		"fixed":  rule("1000/1h"),
		"day":    rule("1000/day"),
		"bucket": rule("1000/744h", burst(1000)),
	}
	for name := range limits {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := newFlatStore()
				left := 1000
				for range 5 {
					ls := flat(t, 2, store, limits)
					for i, l := range ls {
						got, _ := passes(t, []*limit.Limiter{l}, name, "client", 7+i)
						left -= got
						closeAll(t, ls[i:i+1]) // before another leases: of a bucket only the last part can be returned
					}
				}
				ls := flat(t, 1, store, limits)
				defer closeAll(t, ls)
				got, _ := passes(t, ls, name, "client", 1200)
				if lost := left - got; lost < 0 || lost > 1 { // a bucket's last one may come a moment later
					t.Errorf("after five restarts %d of %d are left", got, left)
				}
			})
		})
	}
}

// A node that is alone and dies loses what it had leased: at most half of what is left, for all kinds of limits.
func TestDeadNodeLosesAtMostHalf(t *testing.T) {
	t.Parallel()
	for name, lim := range map[string]node.Limit{
		"fixed": rule("1000/24h"), "bucket": rule("1000/24h", algorithm(node.AlgorithmBucket)),
		"small bucket": rule("10/24h", algorithm(node.AlgorithmBucket)),
		"deep bucket":  rule("10/24h", burst(1000)),
	} {
		for _, share := range []int{0, 1, 3, 6, 9} { // tenths that were spent before
			t.Run(fmt.Sprint(name, " ", share), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					most := lim.Room()
					spent := max(share*most/10, 1)
					way := &cutStore{flatStore: newFlatStore()}
					ls := flatOn(t, []limit.ModelStore{way}, map[string]node.Limit{"r": lim})
					if got := spend(t, ls[0], "client", spent); got != spent {
						t.Fatalf("%d passed of %d", got, spent)
					}
					way.cut.Store(true) // the node can't return anything
					closeAll(t, ls)
					ls = flat(t, 1, way.flatStore, map[string]node.Limit{"r": lim})
					defer closeAll(t, ls)
					got := spend(t, ls[0], "client", 2*most)
					if least := (most-spent)/2 - 1; got < least || got+spent > most {
						t.Errorf("%d passed after %d of %d, want at least %d", got, spent, most, least)
					}
				})
			})
		}
	}
}

// A node that stops returns its slots, and another node has them at once.
func TestStopReturnsSlots(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ls := flat(t, 2, newFlatStore(), map[string]node.Limit{"r": {Max: 10, Algorithm: node.AlgorithmConcurrent}})
		defer closeAll(t, ls[1:])
		first, second := ls[0].Rule("r"), ls[1].Rule("r")
		key := first.Key([]byte("client"))
		for range 10 {
			if d, err := first.Take(t.Context(), key, 1); err != nil || !d.Allowed {
				t.Fatalf("%+v, %v", d, err)
			}
		}
		for range 10 {
			first.Leave(key, 1)
		}
		if err := ls[0].Close(); err != nil {
			t.Fatal(err)
		}
		for i := range 10 {
			if d, err := second.Take(t.Context(), key, 1); err != nil || !d.Allowed {
				t.Fatalf("slot %d: %+v, %v", i+1, d, err)
			}
		}
	})
}
