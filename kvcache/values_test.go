package kvcache_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"millrace/embedded/natsserver/natsservertest"
	"millrace/kvcache"
	"millrace/node/nodetest"
)

func TestValuesSetGetDelete(t *testing.T) {
	v := open(t, natsservertest.Start(t), "n1").Values()
	ctx := t.Context()
	if _, err := v.Get(ctx, "user:1"); !errors.Is(err, kvcache.ErrNotFound) {
		t.Fatalf("before: %v", err)
	}
	if err := v.Set(ctx, "user:1", []byte("Ada"), time.Minute); err != nil {
		t.Fatal(err)
	}
	if got, err := v.Get(ctx, "user:1"); err != nil || string(got) != "Ada" {
		t.Fatalf("set, then %q, %v", got, err)
	}
	got, _ := v.Get(ctx, "user:1")
	got[0] = 'X' // the slice is the caller's
	if again, _ := v.Get(ctx, "user:1"); string(again) != "Ada" {
		t.Errorf("the caller has changed the cache: %q", again)
	}
	if err := v.Set(ctx, "user:1", nil, time.Minute); err != nil {
		t.Fatal(err)
	}
	if got, err := v.Get(ctx, "user:1"); err != nil || len(got) != 0 {
		t.Errorf("an empty value is %q, %v", got, err)
	}
	if err := v.Delete(ctx, "user:1"); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Get(ctx, "user:1"); !errors.Is(err, kvcache.ErrNotFound) {
		t.Errorf("deleted: %v", err)
	}
	if err := v.Delete(ctx, "never set"); err != nil {
		t.Errorf("delete of nothing: %v", err)
	}
}

func TestValuesRefuseLargeKeysAndValues(t *testing.T) {
	v := open(t, natsservertest.Start(t), "n1").Values()
	for name, err := range map[string]error{
		"no key":      v.Set(t.Context(), "", []byte("x"), 0),
		"long key":    v.Set(t.Context(), strings.Repeat("k", 1025), []byte("x"), 0),
		"large value": v.Set(t.Context(), "k", make([]byte, 512<<10+1), 0),
	} {
		if !errors.Is(err, kvcache.ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// None of these becomes a subject as it is.
	for _, key := range []string{"a b", "ü", "a.b.>", "*", "\x00", strings.Repeat("k", 1024)} {
		if err := v.Set(t.Context(), key, []byte(key), 0); err != nil {
			t.Errorf("%q: %v", key, err)
		}
		if got, err := v.Get(t.Context(), key); err != nil || string(got) != key {
			t.Errorf("%q: %q, %v", key, got, err)
		}
	}
}

func TestValuesExpire(t *testing.T) {
	v := open(t, natsservertest.Start(t), "n1").Values()
	if err := v.Set(t.Context(), "k", []byte("v"), 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	nodetest.Eventually(t, "the value expires", func() bool {
		_, err := v.Get(t.Context(), "k")
		return errors.Is(err, kvcache.ErrNotFound)
	})
}

// What one node sets or deletes, every other node reads, and no node reads a value older than what it has set itself.
func TestValuesAreReadOnAllNodes(t *testing.T) {
	servers := natsservertest.StartThree(t)
	var values [3]*kvcache.Values
	for i, s := range servers {
		values[i] = open(t, s, fmt.Sprintf("n%d", i+1), shared, func(c *kvcache.Config) { c.Replicas = 3 }).Values()
	}
	for round := range 20 {
		writer := values[round%3]
		want := fmt.Sprint("value ", round)
		nodetest.Eventually(t, "the value is written", func() bool { // the replicas may be choosing a leader
			err := writer.Set(t.Context(), "k", []byte(want), time.Minute)
			if err != nil && !errors.Is(err, kvcache.ErrAway) {
				t.Fatal(err)
			}
			return err == nil
		})
		if got, err := writer.Get(t.Context(), "k"); err != nil || string(got) != want {
			t.Fatalf("the writer reads %q, %v", got, err)
		}
		for i, v := range values {
			nodetest.Eventually(t, fmt.Sprintf("n%d reads %s", i+1, want), func() bool {
				got, err := v.Get(t.Context(), "k")
				return err == nil && string(got) == want
			})
		}
	}
	if err := values[0].Delete(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	for _, v := range values {
		nodetest.Eventually(t, "the value is gone", func() bool {
			_, err := v.Get(t.Context(), "k")
			return errors.Is(err, kvcache.ErrNotFound)
		})
	}
}

// When many callers on two nodes ask for a missing value at once, one load runs.
func TestValuesLoadOnce(t *testing.T) {
	s := natsservertest.Start(t)
	nodes := []*kvcache.Values{open(t, s, "n1", shared).Values(), open(t, s, "n2", shared).Values()}
	var loads atomic.Int32
	load := func(ctx context.Context) ([]byte, error) {
		loads.Add(1)
		timer := time.NewTimer(100 * time.Millisecond)
		defer timer.Stop()
		<-timer.C
		return []byte("made"), ctx.Err()
	}
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			if got, err := nodes[i%2].GetOrLoad(t.Context(), "k", time.Minute, load); err != nil ||
				string(got) != "made" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	wg.Wait()
	if n := loads.Load(); n != 1 {
		t.Errorf("%d loads", n)
	}
}

func TestValuesReturnLoadError(t *testing.T) {
	v := open(t, natsservertest.Start(t), "n1").Values()
	broken := errors.New("the database is away")
	if _, err := v.GetOrLoad(t.Context(), "k", 0, func(context.Context) ([]byte, error) {
		return nil, broken
	}); !errors.Is(err, broken) {
		t.Errorf("a load that fails: %v", err)
	}
	if _, err := v.GetOrLoad(t.Context(), "k", 0, func(context.Context) ([]byte, error) { panic("bug") }); err == nil {
		t.Error("a load that panics is no error")
	}
	got, err := v.GetOrLoad(t.Context(), "k", 0, func(context.Context) ([]byte, error) { return []byte("now"), nil })
	if err != nil || string(got) != "now" {
		t.Errorf("afterwards: %q, %v", got, err)
	}
}

// Values and responses of the same name are separate.
func TestValuesAreSeparateFromResponses(t *testing.T) {
	c := open(t, natsservertest.Start(t), "n1")
	const url = "http://a.example/"
	c.Put(entry(c, url, "a.example", "t", "response"), kvcache.BothTiers)
	if err := c.Values().Set(t.Context(), "G"+url, []byte("value"), 0); err != nil {
		t.Fatal(err)
	}
	var v kvcache.View
	if !c.Get([]byte("G"+url), &v) || string(v.Value) != "response" {
		t.Errorf("the response is %q", v.Value)
	}
	v.Release()
}
