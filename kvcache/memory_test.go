package kvcache_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"millrace/kvcache"
)

func valueEntry(key string, value []byte, host uint64) *kvcache.Entry {
	return &kvcache.Entry{
		Key: []byte(key), Value: value, Expires: time.Now().Add(time.Hour),
		Scope: kvcache.Scope{URL: 1, Host: host, Tags: []uint64{3, 4}},
	}
}

func TestMemoryKeepsWhatWasPut(t *testing.T) {
	m := kvcache.NewMemory(16<<20, time.Now)
	sizes := []int{0, 1, 7, 200, 4096, 16 << 10, 17 << 10, 256 << 10}
	for i := range 400 {
		size := sizes[i%len(sizes)]
		if i > 40 && size > 1<<14 {
			continue // they would evict the others
		}
		m.Put(valueEntry(fmt.Sprint("k", i), make([]byte, size), 1))
	}
	var v kvcache.View
	found := 0
	for i := range 400 {
		key := fmt.Sprint("k", i)
		if !m.Get([]byte(key), &v) {
			continue
		}
		found++
		if string(v.Key) != key || len(v.Value) != sizes[i%len(sizes)] || len(v.Scope.Tags) != 2 || v.Scope.Host != 1 {
			t.Fatalf("%s came back as %q with %d bytes, %+v", key, v.Key, len(v.Value), v.Scope)
		}
		v.Release()
	}
	if found < 250 {
		t.Errorf("only %d entries are left", found)
	}
	m.Drop([]byte("k3"))
	if m.Get([]byte("k3"), &v) {
		t.Error("what was dropped is still there")
	}
	m.Put(valueEntry("k4", []byte("new"), 1))
	if !m.Get([]byte("k4"), &v) || string(v.Value) != "new" {
		t.Errorf("what was put again is %q", v.Value)
	}
	v.Release()
}

func TestMemoryDropsExpired(t *testing.T) {
	now := time.Now()
	m := kvcache.NewMemory(4<<20, func() time.Time { return now })
	e := valueEntry("k", []byte("v"), 1)
	e.Expires = now.Add(time.Second)
	m.Put(e)
	var v kvcache.View
	if !m.Get([]byte("k"), &v) {
		t.Fatal("a live entry isn't found")
	}
	v.Release()
	now = now.Add(time.Second)
	if m.Get([]byte("k"), &v) {
		t.Error("an entry is found at its end")
	}
}

// A flood of keys that aren't used again doesn't evict used entries, and the limit holds all the time.
func TestMemorySurvivesAFlood(t *testing.T) {
	m := kvcache.NewMemory(16<<20, time.Now)
	const working = 2000
	ask := func() (hits int) {
		var v kvcache.View
		for i := range working {
			key := fmt.Sprint("w", i)
			if m.Get([]byte(key), &v) {
				hits++
				v.Release()
				continue
			}
			m.Put(valueEntry(key, make([]byte, 1000), 1))
		}
		return hits
	}
	ask()
	before := ask()
	during, rounds := 0, 0
	for i := range 400_000 {
		m.Put(valueEntry(fmt.Sprint("flood", i), make([]byte, 500), 1))
		if i%10_000 == 0 {
			during += ask()
			rounds++
		}
		if used, _ := m.Used(); i%1000 == 0 && used > m.Capacity() {
			t.Fatalf("%d bytes of %d are used", used, m.Capacity())
		}
	}
	after := ask()
	t.Logf("hit ratio before %.3f, during %.3f, after %.3f", float64(before)/working,
		float64(during)/float64(working*rounds), float64(after)/working)
	if before != working || float64(during) < 0.9*float64(working*rounds) || after < working*9/10 {
		t.Error("the flood took the working set along")
	}
}

// A host that fills the memory leaves others their share, even if theirs aren't used again (checklist item 54).
func TestMemoryLeavesHostsTheirShare(t *testing.T) {
	m := kvcache.NewMemory(8<<20, time.Now)
	for i := range 500 {
		m.Put(valueEntry(fmt.Sprint("small host", i), make([]byte, 1000), 2))
	}
	for i := range 100_000 {
		m.Put(valueEntry(fmt.Sprint("large host", i), make([]byte, 1000), 1))
	}
	left := 0
	var v kvcache.View
	for i := range 500 {
		if m.Get(fmt.Append(nil, "small host", i), &v) {
			left++
			v.Release()
		}
	}
	if left < 450 {
		t.Errorf("of 500 entries of the other host %d are left", left)
	}
}

// A viewed block counts until it is released, even after it was evicted, and never changes.
func TestMemoryViewsNeverChange(t *testing.T) {
	m := kvcache.NewMemory(4<<20, time.Now)
	m.Put(valueEntry("held", []byte("the very bytes"), 1))
	var v kvcache.View
	if !m.Get([]byte("held"), &v) {
		t.Fatal("not found")
	}
	for i := range 50_000 {
		m.Put(valueEntry(fmt.Sprint("f", i), make([]byte, 1000), 1))
	}
	if string(v.Value) != "the very bytes" {
		t.Errorf("the view now says %q", v.Value)
	}
	v.Release()
	v.Release() // does nothing
	if used, _ := m.Used(); used > m.Capacity() {
		t.Errorf("%d of %d bytes", used, m.Capacity())
	}
}

// Concurrent readers and writers of the same keys, for the race detector: no reader ever sees another key's value.
func TestMemoryIsSafeForConcurrentUse(t *testing.T) {
	m := kvcache.NewMemory(4<<20, time.Now)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 1))
			var v kvcache.View
			for range 20_000 {
				key := strconv.Itoa(r.IntN(3000))
				if r.IntN(3) == 0 {
					m.Put(valueEntry(key, []byte(key+key), 1))
				} else if m.Get([]byte(key), &v) {
					if string(v.Value) != key+key {
						t.Errorf("%s has %q", key, v.Value)
					}
					v.Release()
				}
				if r.IntN(50) == 0 {
					m.Drop([]byte(key))
				}
			}
		})
	}
	wg.Wait()
}

func TestMemoryGetAllocatesNothing(t *testing.T) {
	m := kvcache.NewMemory(4<<20, time.Now)
	m.Put(valueEntry("k", make([]byte, 2000), 1))
	key := []byte("k")
	var v kvcache.View
	if n := testing.AllocsPerRun(1000, func() {
		if m.Get(key, &v) {
			v.Release()
		}
	}); n > 0 {
		t.Errorf("%.0f allocations", n)
	}
}

// BenchmarkMemory reports what an entry costs, and how long a garbage collection takes with that many.
func BenchmarkMemory(b *testing.B) {
	for _, n := range []int{10_000, 1_000_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			m := kvcache.NewMemory(1<<30, time.Now)
			prefix := append(make([]byte, 0, 64), "Ghttp://example.com/items/"...)
			// The keys aren't kept, since the collector would scan them.
			key := func(i int) []byte { return strconv.AppendInt(prefix, int64(i), 10) }
			for i := range n {
				m.Put(valueEntry(string(key(i)), make([]byte, 200), 7))
			}
			runtime.GC()
			begun := time.Now()
			runtime.GC()
			pause := time.Since(begun)
			took := make([]time.Duration, 0, 1<<20)
			var v kvcache.View
			b.ReportAllocs()
			for b.Loop() {
				k := key(rand.IntN(n))
				begun := time.Now()
				if !m.Get(k, &v) {
					b.Fatal("an entry is missing")
				}
				if v.Release(); len(took) < cap(took) {
					took = append(took, time.Since(begun))
				}
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "p50-ns")
			b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "p99-ns")
			size, entries := m.Used()
			b.ReportMetric(float64(size)/float64(entries), "B/entry")
			b.ReportMetric(float64(pause.Microseconds())/1000, "gc-ms")
		})
	}
}
