package limit_test

import (
	"testing"
	"testing/synctest"

	"millrace/kvcache/limit"
	"millrace/node"
)

// A node that is stopped returns what it has leased, so that whoever comes next has all that was not spent.
func TestStopGivesBack(t *testing.T) {
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

// The same for places, which another node has at once.
func TestStopLeavesPlaces(t *testing.T) {
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
				t.Fatalf("place %d: %+v, %v", i+1, d, err)
			}
		}
	})
}
