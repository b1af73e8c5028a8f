package kvcache_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"millrace/embedded/natsserver/natsservertest"
	"millrace/kvcache"
	"millrace/node/nodetest"
)

// Each kind of purge reaches what it names and nothing else, hard or soft.
func TestPurgeReachesWhatItNames(t *testing.T) {
	c := open(t, natsservertest.Start(t), "n1")
	const url, other = "http://a.example/items/1?x=2", "http://b.example/items/1"
	for _, p := range []kvcache.Purge{
		{Reach: kvcache.ReachURL, Text: url},
		{Reach: kvcache.ReachHost, Text: "a.example"},
		{Reach: kvcache.ReachTag, Text: "t1"},
		{Reach: kvcache.ReachPrefix, Text: "http://a.example/it"},
		{Reach: kvcache.ReachURL, Text: "/items/1?x=2"},
		{Reach: kvcache.ReachPrefix, Text: "/items/1?"},
		{Reach: kvcache.ReachAll},
	} {
		for _, soft := range []bool{true, false} {
			p.Soft = soft
			t.Run(fmt.Sprintf("%s %s soft %t", p.Reach, p.Text, soft), func(t *testing.T) {
				c.Put(entry(c, url, "a.example", "t1", "v"), kvcache.MemoryOnly)
				c.Put(entry(c, other, "b.example", "t2", "v"), kvcache.MemoryOnly)
				purge(t, c, true, p)
				want, wantOther := kvcache.Invalid, kvcache.Valid
				if soft {
					want = kvcache.Stale
				}
				if p.Reach == kvcache.ReachAll {
					wantOther = want
				}
				if got := validity(c, url); got != want {
					t.Errorf("what the purge reaches is %d, want %d", got, want)
				}
				if got := validity(c, other); got != wantOther {
					t.Errorf("what it doesn't reach is %d, want %d", got, wantOther)
				}
			})
		}
	}
}

// A fetch that began before a purge can't bring old content back, however late it ends (checklist item 38).
func TestLateFillStaysPurged(t *testing.T) {
	c := open(t, natsservertest.Start(t), "n1")
	const url = "http://a.example/"
	late := entry(c, url, "a.example", "t", "old") // with the epoch of the fetch's beginning
	purge(t, c, true, kvcache.Purge{Reach: kvcache.ReachURL, Text: url})
	c.Put(late, kvcache.BothTiers)
	if got := validity(c, url); got != kvcache.Invalid {
		t.Errorf("the late fill is %d", got)
	}
	c.Put(entry(c, url, "a.example", "t", "new"), kvcache.BothTiers)
	if got := validity(c, url); got != kvcache.Valid {
		t.Errorf("a fetch that began after the purge is %d", got)
	}
}

// A purge that waits for all nodes lists every node, and has taken effect on each when it returns.
func TestPurgeWaitsForAll(t *testing.T) {
	servers := natsservertest.StartThree(t)
	var nodes [3]*kvcache.Cache
	for i, s := range servers {
		nodes[i] = open(t, s, fmt.Sprintf("n%d", i+1), shared, func(c *kvcache.Config) { c.Replicas = 3 })
	}
	var took []time.Duration
	for round := range 20 {
		url := fmt.Sprintf("http://a.example/%d", round)
		for _, n := range nodes {
			n.Put(entry(n, url, "a.example", "t", "v"), kvcache.MemoryOnly)
		}
		begun := time.Now()
		done := purge(t, nodes[round%3], true, kvcache.Purge{Reach: kvcache.ReachURL, Text: url})
		took = append(took, time.Since(begun))
		if len(done.Nodes) != 3 {
			t.Fatalf("the purge names %v", done.Nodes)
		}
		for i, n := range nodes {
			if got := validity(n, url); got != kvcache.Invalid {
				t.Errorf("node %d still has it: %d", i, got)
			}
		}
	}
	t.Logf("acknowledged after %s", took)
}

// A node that doesn't receive purges returns nothing once its lease is over, and a purge waits for just that.
func TestPurgeWaitsForLeaseOfSilentNode(t *testing.T) {
	s := natsservertest.Start(t)
	a := open(t, s, "n1", shared)
	var nc *nats.Conn
	b := open(t, s, "n2", shared, func(c *kvcache.Config) { nc = c.NATS })
	const url = "http://a.example/"
	b.Put(entry(b, url, "a.example", "t", "v"), kvcache.MemoryOnly)
	nodetest.Eventually(t, "n1 has heard of n2", func() bool {
		return len(purge(t, a, true, kvcache.Purge{Reach: kvcache.ReachTag, Text: "x"}).Nodes) == 2
	})
	nc.Close() // it neither renews its lease nor answers
	begun := time.Now()
	done := purge(t, a, true, kvcache.Purge{Reach: kvcache.ReachURL, Text: url})
	if b.Leased() {
		t.Errorf("the purge was answered after %s while the deaf node still gives out entries", time.Since(begun))
	}
	if len(done.Nodes) != 2 || done.Nodes[1].State != kvcache.PurgeExpired {
		t.Errorf("the purge names %+v", done.Nodes)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
}

// Without NATS a purge fails, and the lease ends.
func TestPurgeFailsWithoutNATS(t *testing.T) {
	s := natsservertest.Start(t)
	c := open(t, s, "n1", shared)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	nodetest.Eventually(t, "the lease ends", func() bool { return !c.Leased() })
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := c.Purge(ctx, []kvcache.Purge{{Reach: kvcache.ReachAll}}, true); !errors.Is(err, kvcache.ErrAway) {
		t.Errorf("purge without NATS: %v", err)
	}
}

// After a restart purges and entries are there again, and a purged entry of the bucket stays purged.
func TestPurgesSurviveRestart(t *testing.T) {
	s := natsservertest.Start(t)
	c := open(t, s, "n1")
	const kept, purged = "http://a.example/kept", "http://a.example/purged"
	for _, url := range []string{kept, purged} {
		c.Put(entry(c, url, "a.example", "t", "v"), kvcache.BothTiers)
	}
	nodetest.Eventually(t, "the bucket has both", func() bool { return c.Stats().BucketWritten == 2 })
	purge(t, c, true, kvcache.Purge{Reach: kvcache.ReachURL, Text: purged})
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, s, "n1")
	for url, want := range map[string]kvcache.Validity{kept: kvcache.Valid, purged: kvcache.Invalid} {
		var v kvcache.View
		if !again.Load(t.Context(), []byte("G"+url), &v) {
			t.Fatalf("%s isn't in the bucket", url)
		}
		if got := again.Judge(&v.Scope, []byte(url)); got != want {
			t.Errorf("%s is %d, want %d", url, got, want)
		}
		v.Release()
	}
}

// What an unsafe request may have changed is invalid on the other node too, even if only that node has it (RFC 9111
// §4.4).
func TestRFC9111Section4_4InvalidatesEverywhere(t *testing.T) {
	s := natsservertest.Start(t)
	a, b := open(t, s, "n1", shared), open(t, s, "n2", shared)
	const url = "http://a.example/"
	b.Put(entry(b, url, "a.example", "t", "v"), kvcache.MemoryOnly)
	a.Invalidate(t.Context(), []string{url}, [][]byte{[]byte("G" + url)}, nil)
	nodetest.Eventually(t, "the other node's entry is invalid", func() bool {
		return validity(b, url) == kvcache.Invalid
	})
	nodetest.Eventually(t, "the node itself has read of it", func() bool { return a.Stats().Purges == 1 })
	before := a.Stats().Purges
	a.Invalidate(t.Context(), []string{"http://a.example/never-stored"},
		[][]byte{[]byte("Ghttp://a.example/never-stored")}, nil)
	if after := a.Stats().Purges; after != before {
		t.Errorf("what nobody has stored went into the log: %d purges, before %d", after, before)
	}
}
