package limit_test

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
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

// heapPerKey returns how many bytes a key costs in a table with n keys.
func heapPerKey(n int) float64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	table := limit.NewFullTable(n)
	runtime.GC()
	runtime.ReadMemStats(&after)
	defer runtime.KeepAlive(table)
	return float64(after.HeapAlloc-before.HeapAlloc) / float64(table.Len())
}

func BenchmarkMemoryPerKey(b *testing.B) {
	for _, n := range []int{500_000, 700_000, 800_000, 1_000_000, 1_200_000, 1_500_000, 2_000_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			for range b.N {
				b.ReportMetric(heapPerKey(n), "B/key")
			}
		})
	}
}

// takeTwice asks twice for each of many keys, and counts what passes of each.
func takeTwice(tb testing.TB, r *limit.Rule, passed []int) {
	tb.Helper()
	var next atomic.Int64
	var running sync.WaitGroup
	for range 32 {
		running.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(passed)); i = next.Add(1) - 1 {
				key := r.Key(fmt.Appendf(nil, "client %d", i))
				for range 2 {
					d, ok := r.Try(time.Now(), key, 1)
					if !ok {
						var err error
						if d, err = r.Take(context.Background(), key, 1); err != nil {
							tb.Errorf("client %d got %v", i, err)
							return
						}
					}
					if d.Allowed {
						passed[i]++
					}
				}
			}
		})
	}
	running.Wait()
}

// With fewer entries than keys, no key exceeds its limit: what a dropped entry held is in its record, or lost.
func TestEvictedKeysStayLimited(t *testing.T) {
	t.Parallel()
	algorithm := func(a node.Algorithm) func(*node.Limit) { return func(l *node.Limit) { l.Algorithm = a } }
	for name, run := range map[string]struct {
		limit         node.Limit
		entries, keys int
	}{
		"first": {rule("3/744h"), 1000, 20_000}, "share": {shareLimit("3/744h"), 1000, 20_000},
		"bucket":  {rule("3/744h", algorithm(node.AlgorithmBucket)), 256, 2_000},
		"sliding": {rule("3/744h", algorithm(node.AlgorithmSliding)), 256, 2_000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ls := flatOn(t, []limit.ModelStore{newFlatStore()}, map[string]node.Limit{"r": run.limit},
					func(c *limit.Config) {
						c.Keys = run.entries
					})
				defer closeAll(t, ls)
				l := ls[0]
				if after(time.Second); name == "share" && !l.BackdateShare() {
					t.Fatal("the node has no share number")
				}
				passed := make([]int, run.keys)
				for range 3 {
					takeTwice(t, l.Rule("r"), passed)
					if n := l.Stats().Keys; n > run.entries {
						t.Errorf("%d entries in memory, want at most %d", n, run.entries)
					}
				}
				sum := 0
				for i, n := range passed {
					if sum += n; n > 3 {
						t.Errorf("%d of client %d passed, want at most 3", n, i)
					}
				}
				s := l.Stats()
				t.Logf("%.2f of each client passed, with %d entries, %d reads and %d writes",
					float64(sum)/float64(run.keys), s.Keys, s.Reads, s.Writes)
				if sum < run.keys {
					t.Errorf("%d of %d clients passed: none should be refused at first", sum, run.keys)
				}
			})
		})
	}
}

// Refused requests cost the store nothing, and the other nodes almost nothing.
func TestRefusedTrafficCostsNothing(t *testing.T) {
	t.Parallel()
	limits := map[string]node.Limit{
		"first": rule("100/1h"), "sliding": rule("100/1h", func(l *node.Limit) { l.Algorithm = node.AlgorithmSliding }),
		"bucket": rule("100/1h", func(l *node.Limit) { l.Algorithm = node.AlgorithmBucket }),
	}
	onFlat(t, limits, refuse)
}

// The same over NATS.
func TestRefusedTrafficCostsNothingOverThreeNodes(t *testing.T) { // not parallel: three servers need the machine
	refuse(t, three(t, map[string]node.Limit{"r": rule("100/1h")}), "r")
}

func refuse(t *testing.T, ls []*limit.Limiter, name string) {
	t.Helper()
	const requests = 100_000
	got, certain := passes(t, ls, name, "client", 400)
	if ls[0].Rule(name).Limit.Algorithm == node.AlgorithmBucket {
		after(10 * time.Second) // the last permit of a bucket over several nodes may come that late
	}
	more, sure := passes(t, ls, name, "client", 100)
	if got += more; got > 100 || (certain && sure && got < 100) {
		t.Fatalf("%d passed, want 100", got)
	}
	for i, l := range ls { // each has been refused once
		nodetest.Eventually(t, fmt.Sprintf("node %d knows that nothing is left", i+1), func() bool {
			d, err := l.Rule(name).Take(t.Context(), l.Rule(name).Key([]byte("client")), 1)
			return err == nil && !d.Allowed
		})
	}
	operationsBefore, recallsBefore, begun := operations(ls), recalls(ls), time.Now()
	for range 10 {
		if got, _ := passes(t, ls, name, "client", requests/10); got != 0 {
			t.Errorf("%d passed, want none", got)
		}
		after(100 * time.Millisecond)
	}
	ops, asked := operations(ls)-operationsBefore, recalls(ls)-recallsBefore
	t.Logf("%d refused requests in %s: %d reads and writes, %d recalls", requests, time.Since(begun), ops, asked)
	// A node of several asks the others again after 2 s, 4 s, and so on.
	if most := uint64(len(ls)-1) * 6; ops > 3*most || asked > most {
		t.Errorf("%d reads and writes and %d recalls for refused requests, want at most %d and %d", ops, asked, 3*most,
			most)
	}
}

func recalls(ls []*limit.Limiter) (n uint64) {
	for _, l := range ls {
		n += l.Stats().Recalls
	}
	return n
}

// Spending a held permit allocates nothing, whatever the algorithm, nor does refusing a request from memory.
func TestTryAllocatesNothing(t *testing.T) { // not parallel: other tests allocate
	change := func(algorithm node.Algorithm) func(*node.Limit) {
		return func(l *node.Limit) { l.Algorithm = algorithm }
	}
	l := open(t, natsservertest.Start(t), "n1", map[string]node.Limit{
		"fixed": rule("2000000000/1h"), "sliding": rule("2000000000/1h", change(node.AlgorithmSliding)),
		"bucket": rule("2000000000/1h", change(node.AlgorithmBucket)),
		"spent":  rule("1/1h"),
	})
	for _, name := range []string{"fixed", "sliding", "bucket", "spent"} {
		r := l.Rule(name)
		client := []byte("192.0.2.1")
		if _, err := r.Take(t.Context(), r.Key(client), 1); err != nil {
			t.Fatal(err)
		}
		passed := 0
		allocations := testing.AllocsPerRun(1000, func() {
			if d, ok := r.Try(time.Now(), r.Key(client), 1); ok && d.Allowed {
				passed++
			}
		})
		if want := name != "spent"; allocations != 0 || (passed > 1000) != want {
			t.Errorf("%s: %v allocations, %d passed", name, allocations, passed)
		}
	}
}
