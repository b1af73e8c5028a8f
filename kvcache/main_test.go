package kvcache_test

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"millrace/embedded/natsserver"
	"millrace/embedded/natsserver/natsservertest"
	"millrace/kvcache"
	"millrace/mesh"
	"millrace/node/nodetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open runs a cache on a server until the test ends, and waits until it has a lease.
func open(t *testing.T, s *natsserver.Server, name string, change ...func(*kvcache.Config)) *kvcache.Cache {
	t.Helper()
	conn := natsservertest.Connect(t, s, func(c *mesh.Config) { c.Name = name })
	cfg := kvcache.Config{
		Node: "id-" + name, Name: name, NATS: conn.NATS(), Replicas: 1, Alone: true, MemoryBytes: 8 << 20,
		BucketBytes: 32 << 20, Log: nodetest.Discard(),
	}
	for _, f := range change {
		f(&cfg)
	}
	c, err := kvcache.New(cfg)
	if err == nil {
		err = c.Open(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	nodetest.Eventually(t, name+" follows the purges", c.Leased)
	nodetest.Eventually(t, name+" has the bucket", func() bool { return c.Stats().BucketReady })
	return c
}

func shared(c *kvcache.Config) { c.Alone = false }

// entry returns an entry that purges of its URL, its host and the tag reach.
func entry(c *kvcache.Cache, url, host, tag, value string) *kvcache.Entry {
	return &kvcache.Entry{
		Key: []byte("G" + url), Value: []byte(value), Expires: time.Now().Add(time.Hour), Scope: kvcache.Scope{
			Epoch: c.Epoch(), URL: kvcache.Hash(kvcache.ReachURL, url), Host: kvcache.Hash(kvcache.ReachHost, host),
			Tags: []uint64{kvcache.Hash(kvcache.ReachTag, tag)},
		},
	}
}

// validity returns the validity of the entry of a URL; Invalid if there is none.
func validity(c *kvcache.Cache, url string) kvcache.Validity {
	var v kvcache.View
	if !c.Get([]byte("G"+url), &v) {
		return kvcache.Invalid
	}
	defer v.Release()
	return c.Judge(&v.Scope, []byte(url))
}

func purge(t *testing.T, c *kvcache.Cache, all bool, p ...kvcache.Purge) kvcache.Purged {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	done, err := c.Purge(ctx, p, all)
	if err != nil {
		t.Fatal(err)
	}
	return done
}
