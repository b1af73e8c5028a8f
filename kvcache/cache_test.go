package kvcache_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"millrace/embedded/natsserver/natsservertest"
	"millrace/kvcache"
	"millrace/node/nodetest"
)

// The bucket can be opened as an ordinary KV bucket, its entries have a time to live, and it drops the oldest when it
// is full.
func TestBucketIsAnOrdinaryKVBucket(t *testing.T) {
	s := natsservertest.Start(t)
	c := open(t, s, "n1", func(c *kvcache.Config) { c.BucketBytes = 16 << 20 })
	for i := range 300 {
		url := fmt.Sprint("http://a.example/", i)
		c.Put(entry(c, url, "a.example", "t", strings.Repeat("x", 100<<10)), kvcache.BothAlways)
		nodetest.Eventually(t, "it is written", func() bool { return c.Stats().BucketWritten == uint64(i+1) })
	}
	js, err := jetstream.New(natsservertest.Connect(t, s).NATS())
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), "millrace-cache")
	if err != nil {
		t.Fatal(err)
	}
	status, err := kv.Status(t.Context())
	if err != nil || status.Bytes() > 16<<20 || status.Bytes() < 8<<20 {
		t.Errorf("%d bytes, %v", status.Bytes(), err)
	}
	stream, err := js.Stream(t.Context(), "KV_millrace-cache")
	if err != nil {
		t.Fatal(err)
	}
	last, err := stream.GetMsg(t.Context(), stream.CachedInfo().State.LastSeq)
	if err != nil || last.Header.Get("Nats-TTL") == "" {
		t.Errorf("the last entry has headers %v, %v", last, err)
	}
}

// When the bucket is full, only entries that were used before are written: a flood of unique entries doesn't evict
// others.
func TestFullBucketKeepsUsedEntries(t *testing.T) {
	c := open(t, natsservertest.Start(t), "n1", func(c *kvcache.Config) { c.BucketBytes = 16 << 20 })
	for i := range 160 {
		c.Put(entry(c, fmt.Sprint("http://a.example/", i), "a.example", "t", strings.Repeat("x", 100<<10)),
			kvcache.BothAlways)
		nodetest.Eventually(t, "it is written", func() bool { return c.Stats().BucketWritten == uint64(i+1) })
	}
	before := c.Stats()
	for i := range 100 {
		c.Put(entry(c, fmt.Sprint("http://a.example/flood", i), "a.example", "t", strings.Repeat("x", 10<<10)),
			kvcache.BothTiers)
	}
	if got := c.Stats(); got.BucketSkipped-before.BucketSkipped != 100 {
		t.Errorf("%d of 100 were left out", got.BucketSkipped-before.BucketSkipped)
	}
}

// No caller waits longer than Patience for a bucket that is away.
func TestAwayBucketIsNotWaitedFor(t *testing.T) {
	s := natsservertest.Start(t)
	c := open(t, s, "n1")
	c.Put(entry(c, "http://a.example/", "a.example", "t", "v"), kvcache.BothTiers)
	nodetest.Eventually(t, "it is written", func() bool { return c.Stats().BucketWritten == 1 })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var v kvcache.View
	begun := time.Now()
	for range 10 {
		if c.Load(t.Context(), []byte("Ghttp://b.example/"), &v) {
			t.Error("found")
		}
	}
	if took := time.Since(begun); took > time.Second { // ten times Patience is 200 ms
		t.Errorf("ten reads took %s", took)
	}
	if !c.Get([]byte("Ghttp://a.example/"), &v) {
		t.Error("the memory lost its entry")
	}
	v.Release()
}

func TestFlightsShareOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flights kvcache.Flights[string]
		flight, leads := flights.Join("k")
		if !leads {
			t.Fatal("the first one doesn't lead")
		}
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				f, leads := flights.Join("k")
				if got, ok := f.Wait(t.Context(), 5*time.Second); leads || !ok || got != "done" {
					t.Errorf("leads %t, %q, %t", leads, got, ok)
				}
			})
		}
		wg.Go(func() { // a caller that gives up
			f, _ := flights.Join("k")
			begun := time.Now()
			if _, ok := f.Wait(t.Context(), time.Second); ok || time.Since(begun) != time.Second {
				t.Errorf("ended after %s, %t", time.Since(begun), ok)
			}
		})
		wg.Go(func() { // a caller whose client disconnects
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			f, _ := flights.Join("k")
			if _, ok := f.Wait(ctx, time.Minute); ok {
				t.Error("it waited to the end")
			}
		})
		<-time.After(2 * time.Second)
		flight.Finish("done")
		flight.Finish("again")
		wg.Wait()
		if flights.Len() != 0 {
			t.Errorf("%d are left", flights.Len())
		}
		if _, leads := flights.Join("k"); !leads {
			t.Error("the next one doesn't lead")
		}
	})
}

// When a node joins or leaves, only its keys move, and keys are distributed about evenly.
func TestHomeMovesFewKeys(t *testing.T) {
	nodes := []string{"aaaa", "bbbb", "cccc", "dddd"}
	counts := map[string]int{}
	moved := 0
	for i := range 40_000 {
		key := fmt.Append(nil, "Ghttp://a.example/", i)
		home := kvcache.Home(key, nodes)
		counts[home]++
		without := kvcache.Home(key, nodes[:3])
		if home != "dddd" && home != without {
			moved++
		}
		if again := kvcache.Home(key, []string{"dddd", "bbbb", "cccc", "aaaa"}); again != home {
			t.Fatal("the order of the nodes matters")
		}
	}
	if moved > 0 {
		t.Errorf("%d keys of other nodes moved", moved)
	}
	for node, n := range counts {
		if n < 9_500 || n > 10_500 {
			t.Errorf("%s has %d of 40,000", node, n)
		}
	}
	if kvcache.Home([]byte("k"), nil) != "" {
		t.Error("nobody is a home")
	}
}
