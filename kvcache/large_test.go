package kvcache_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"millrace/embedded/natsserver/natsservertest"
	"millrace/kvcache"
)

// entriesTogether returns n entries of 100 KiB that belong together.
func entriesTogether(name string, n int) []kvcache.Entry {
	var out []kvcache.Entry
	for i := range n {
		value := []byte(strings.Repeat("x", 100<<10))
		out = append(out, kvcache.Entry{
			Key: fmt.Append(nil, "C", name, i), Value: value,
			Expires: time.Now().Add(time.Hour),
		})
	}
	return out
}

// together writes entries together and reports whether all were written.
func together(t *testing.T, c *kvcache.Cache, entries []kvcache.Entry, used bool) bool {
	t.Helper()
	done := make(chan bool, 2) // a second call of done would be seen
	c.WriteTogether(entries, used, func(all bool) { done <- all })
	select {
	case all := <-done:
		if len(done) > 0 {
			t.Error("it is told twice")
		}
		return all
	case <-time.After(20 * time.Second):
		t.Fatal("nobody tells whether all is written")
		return false
	}
}

// Entries that belong together are in the bucket all together, or none is written. When the bucket is full, only those
// used before are written.
func TestWriteTogetherWritesAllOrNothing(t *testing.T) {
	s := natsservertest.Start(t)
	small := func(c *kvcache.Config) { c.BucketBytes = 16 << 20 }
	c, other := open(t, s, "n1", small), open(t, s, "n2", small)
	var v kvcache.View
	for i := range 7 { // each takes 2 of the 14.4 MiB that are nine tenths of the bucket
		if !together(t, c, entriesTogether(strconv.Itoa(i), 20), false) {
			t.Fatalf("value %d isn't written", i)
		}
	}
	for i := range 20 {
		found, err := other.Read(t.Context(), fmt.Append(nil, "C6", i), &v)
		if !found || err != nil || len(v.Value) != 100<<10 {
			t.Errorf("part %d on another node: %t, %v", i, found, err)
		}
		v.Release()
	}
	before := c.Stats().BucketWritten
	if together(t, c, entriesTogether("unused", 20), false) || c.Stats().BucketWritten != before {
		t.Error("a new value drives others out")
	}
	if !together(t, c, entriesTogether("used", 20), true) {
		t.Error("a value that was asked for again isn't written")
	}
	if together(t, c, entriesTogether("huge", 50), true) {
		t.Error("a value takes more than a quarter of the bucket")
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if together(t, c, entriesTogether("late", 1), true) {
		t.Error("a closed cache has written")
	}
}

// A slow read doesn't make Read skip the bucket. Read distinguishes a bucket without the key from one that doesn't
// answer.
func TestReadHasItsOwnDeadline(t *testing.T) {
	s := natsservertest.Start(t)
	c := open(t, s, "n1")
	if !together(t, c, entriesTogether("a", 1), false) {
		t.Fatal("not written")
	}
	var v kvcache.View
	if found, err := c.Read(t.Context(), []byte("Cb0"), &v); found || err != nil {
		t.Errorf("what isn't there: %t, %v", found, err)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if found, err := c.Read(canceled, []byte("Ca0"), &v); found || !errors.Is(err, kvcache.ErrBucket) {
		t.Errorf("without time: %t, %v", found, err)
	}
	deadline, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	<-deadline.Done()
	if c.Load(deadline, []byte("Ca0"), &v) { // so that others skip the bucket for a second
		t.Error("found without time")
	}
	if found, err := c.Read(t.Context(), []byte("Ca0"), &v); !found || err != nil {
		t.Errorf("after a read that took too long: %t, %v", found, err)
	}
	v.Release()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	c.Drop([]byte("Ca0"))
	if found, err := c.Read(short, []byte("Ca0"), &v); found || !errors.Is(err, kvcache.ErrBucket) {
		t.Errorf("without a bucket: %t, %v", found, err)
	}
}
