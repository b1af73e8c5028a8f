package kvcache

import (
	"bytes"
	"hash/maphash"
	"math/bits"
	"sync/atomic"
	"time"
)

// memory is the first tier: encoded entries in large blocks without pointers, so that a million entries cost the
// garbage collector nothing. S3-FIFO (Yang et al., SOSP 2023) decides what stays: an entry that isn't used again is
// evicted early, so a flood of such entries doesn't evict used ones. DESIGN.md compares it with others. It is safe for
// concurrent use.
type memory struct {
	shards []shard
	seed   maphash.Seed
	clock  func() time.Time
	stats  memoryStats
}

// memoryStats has counters since the start.
type memoryStats struct {
	hits, misses, stored, evicted, refused atomic.Uint64
}

// Sizes of the first tier.
const (
	segmentSize = 64 << 10        // bytes of a block of small entries
	largeEntry  = segmentSize / 4 // a larger entry has its own block
	minMemory   = 4 << 20
	shardBytes  = 4 << 20 // approximate size of a shard
	maxShards   = 256
)

// newMemory returns a first tier of at most maxBytes, index included.
func newMemory(maxBytes int64, clock func() time.Time) *memory {
	maxBytes = max(maxBytes, minMemory)
	n := 1 << (bits.Len64(uint64(min(max(maxBytes/shardBytes, 1), maxShards))) - 1)
	m := &memory{shards: make([]shard, n), seed: maphash.MakeSeed(), clock: clock}
	for i := range m.shards {
		m.shards[i].init(maxBytes/int64(n), m.seed, &m.stats)
	}
	return m
}

// View is an entry in memory. Key and Value alias that memory and never change. The caller must Release the view when
// it doesn't use them any more: until then their block counts against the limit.
type View struct {
	Entry

	tags [8]uint64 // initial capacity of Scope.Tags
	seg  *segment
}

// Release releases the view. Further calls, and calls on a zero View, do nothing.
func (v *View) Release() {
	if v.seg != nil {
		v.seg.release()
		v.seg = nil
	}
}

func (m *memory) shardOf(hash uint64) *shard { return &m.shards[hash&uint64(len(m.shards)-1)] } //nolint:gosec // G115: positive

// get finds an entry that hasn't expired and fills v. It counts as a use of the entry.
func (m *memory) get(key []byte, v *View) bool {
	hash := maphash.Bytes(m.seed, key)
	b, seg := m.shardOf(hash).get(hash, key, m.clock().UnixMilli())
	if seg == nil {
		m.stats.misses.Add(1)
		return false
	}
	v.seg = seg
	v.Scope.Tags = v.tags[:0]
	if v.Decode(b) != nil {
		v.Release()
		return false
	}
	m.stats.hits.Add(1)
	return true
}

// put copies an encoded entry into memory, and replaces the one of its key.
func (m *memory) put(encoded []byte) bool {
	key := encodedKey(encoded)
	hash := maphash.Bytes(m.seed, key)
	return m.shardOf(hash).put(hash, encoded, m.clock().UnixMilli())
}

// drop removes a key.
func (m *memory) drop(key []byte) {
	hash := maphash.Bytes(m.seed, key)
	m.shardOf(hash).drop(hash, key)
}

// clear removes all entries whose keys begin with letter.
func (m *memory) clear(space KeySpace) {
	for i := range m.shards {
		m.shards[i].clear(space)
	}
}

// used returns the number of bytes that count against the limit, and of entries.
func (m *memory) used() (size int64, entries int) {
	for i := range m.shards {
		s := &m.shards[i]
		size += s.bytes.Load()
		s.mu.Lock()
		entries += s.index.used
		s.mu.Unlock()
	}
	return size, entries
}

// capacity returns the limit in bytes.
func (m *memory) capacity() int64 { return m.shards[0].max * int64(len(m.shards)) }

// equal reports whether a and b are equal, without the copies of a conversion to string.
func equal(a, b []byte) bool { return bytes.Equal(a, b) }
