package edgetest

import (
	"testing"

	"millrace/edge/cache"
	"millrace/kvcache"
	"millrace/kvcache/httpcache"
	"millrace/node"
	"millrace/node/nodetest"
)

// ChunkSize is the size of the chunks in which large bodies are stored.
const ChunkSize = 256 << 10

// NoBucket makes the bucket too small for anything in chunks: they may have a quarter of it.
func NoBucket(c *Config) {
	c.Cache.Store = func(s *node.CacheStore) { s.Disk = 512 * node.KiB }
}

// openCache makes the cache, whose memory is empty.
func (r *Rig) openCache(tb testing.TB) {
	tb.Helper()
	cache, err := kvcache.New(kvcache.Config{
		Node: "abc", Name: "n1", NATS: r.nats.NATS(), Replicas: 1, Alone: !r.cfg.Cache.Shared,
		MemoryBytes: int64(r.store.Memory), BucketBytes: int64(r.store.Disk), Log: nodetest.Discard(),
	})
	if err == nil {
		err = cache.Open(tb.Context())
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = cache.Close() })
	r.Cache = cache
}

// Restart begins anew with what the bucket has, once that many entries have been written to it.
func (r *Rig) Restart(tb testing.TB, written uint64) {
	tb.Helper()
	nodetest.Eventually(tb, "the bucket has all", func() bool { return r.Cache.Stats().BucketWritten >= written })
	if err := r.Close(); err != nil {
		tb.Error(err)
	}
	_ = r.Cache.Close()
	r.openCache(tb)
	r.listen(tb)
	nodetest.Eventually(tb, "the bucket is there", func() bool { return r.Cache.Stats().BucketReady })
}

// Settled waits until every purge that was written before is applied: an invalidation may go on without that.
func (r *Rig) Settled(tb testing.TB) {
	tb.Helper()
	if _, err := r.Cache.Purge(tb.Context(), []kvcache.Purge{
		{Reach: kvcache.ReachURL, Text: "http://settled.test/"},
	}, true); err != nil {
		tb.Fatal(err)
	}
}

// RecordOf gives what the memory has of a path.
func (r *Rig) RecordOf(tb testing.TB, path string) httpcache.Record {
	tb.Helper()
	var v kvcache.View
	var rec httpcache.Record
	if !r.Cache.Get([]byte("Ghttp://example.test"+path), &v) || rec.Decode(v.Value) != nil {
		tb.Fatalf("there is no record of %s", path)
	}
	v.Release()
	return rec
}

// Lose takes chunks of a path out of the memory.
func (r *Rig) Lose(tb testing.TB, path string, chunks ...uint32) {
	tb.Helper()
	rec := r.RecordOf(tb, path)
	if rec.Chunks == 0 {
		tb.Fatalf("%s isn't in chunks: %+v", path, rec)
	}
	for _, n := range chunks {
		r.Cache.Drop(cache.ChunkKey(rec.Nonce, n))
	}
}

// StoreLarge asks for a path until it is served from the memory.
func (r *Rig) StoreLarge(tb testing.TB, path string) {
	tb.Helper()
	nodetest.Eventually(tb, path+" is stored", func() bool { return r.Get(tb, path).Hit })
}

// ApplyPurges makes the purges, and ends the test if the cache refuses them.
func (r *Rig) ApplyPurges(t *testing.T, purges ...kvcache.Purge) {
	t.Helper()
	if _, err := r.Cache.Purge(t.Context(), purges, true); err != nil {
		t.Fatal(err)
	}
}

// Has reports whether the memory has something of a path, without asking for it.
func (r *Rig) Has(path string) bool {
	var v kvcache.View
	has := r.Cache.Get([]byte("Ghttp://example.test"+path), &v)
	v.Release()
	return has
}

// Invalidated waits until a path isn't answered from the store: a request that invalidates waits for the log of purges
// for 20 ms at most (kvcache.Patience), and goes on without it.
func (r *Rig) Invalidated(tb testing.TB, what, path string, header ...string) {
	tb.Helper()
	nodetest.Eventually(tb, what, func() bool { return !r.Get(tb, path, header...).Hit })
}
