package kvcache

import (
	"bytes"
	"hash/maphash"
	"math/bits"
	"sync/atomic"
	"time"
)

// memory is the first tier: encoded entries in large blocks that hold no pointers, so that a million of them cost a
// garbage collection nothing. What stays is decided by S3-FIFO (Yang et al., SOSP 2023): an entry that nobody asked for
// again leaves early, so a flood of such passes without taking what is in use along. DESIGN.md compares it with others.
// It is safe for concurrent use.
type memory struct {
	shards []shard
	seed   maphash.Seed
	clock  func() time.Time
	stats  memoryStats
}

// memoryStats counts since the start.
type memoryStats struct {
	hits, misses, stored, evicted, refused atomic.Uint64
}

// Sizes of the first tier.
const (
	segmentSize = 64 << 10        // bytes of a block of small entries
	largeEntry  = segmentSize / 4 // an entry beyond it has a block of its own
	minMemory   = 4 << 20
	shardBytes  = 4 << 20 // about what a shard holds
	maxShards   = 256
)

// newMemory makes a first tier of at most so many bytes, index included.
func newMemory(maxBytes int64, clock func() time.Time) *memory {
	maxBytes = max(maxBytes, minMemory)
	n := 1 << (bits.Len64(uint64(min(max(maxBytes/shardBytes, 1), maxShards))) - 1)
	m := &memory{shards: make([]shard, n), seed: maphash.MakeSeed(), clock: clock}
	for i := range m.shards {
		m.shards[i].init(maxBytes/int64(n), m.seed, &m.stats)
	}
	return m
}

// View is an entry as it lies in memory. Key and Value alias that memory and are never changed. Release must follow
// when they aren't used any more: until then their block counts against the limit.
type View struct {
	Entry

	tags [8]uint64 // room for the usual number
	seg  *segment
}

// Release gives the view back. It may be called once, and on a zero View.
func (v *View) Release() {
	if v.seg != nil {
		v.seg.release()
		v.seg = nil
	}
}

func (m *memory) at(hash uint64) *shard { return &m.shards[hash&uint64(len(m.shards)-1)] } //nolint:gosec // G115: positive

// get finds a live entry and fills v. It counts as a use of the entry.
func (m *memory) get(key []byte, v *View) bool {
	hash := maphash.Bytes(m.seed, key)
	b, seg := m.at(hash).get(hash, key, m.clock().UnixMilli())
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

// put stores an encoded entry, which isn't kept, in place of what its key had.
func (m *memory) put(encoded []byte) bool {
	key := encodedKey(encoded)
	hash := maphash.Bytes(m.seed, key)
	return m.at(hash).put(hash, encoded, m.clock().UnixMilli())
}

// drop removes a key.
func (m *memory) drop(key []byte) {
	hash := maphash.Bytes(m.seed, key)
	m.at(hash).drop(hash, key)
}

// clear removes every entry whose key begins with the letter.
func (m *memory) clear(letter byte) {
	for i := range m.shards {
		m.shards[i].clear(letter)
	}
}

// used is the number of bytes that count against the limit, and of entries.
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

// capacity is the limit in bytes.
func (m *memory) capacity() int64 { return m.shards[0].max * int64(len(m.shards)) }

// same compares without the copies that a conversion to string might make.
func same(a, b []byte) bool { return bytes.Equal(a, b) }
