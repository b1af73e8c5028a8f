package kvcache

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

// segment is a block of encoded entries, filled once from the front. It never moves and is never overwritten, so views
// may alias it for any time; the garbage collector frees it after the last one.
type segment struct {
	owner   *shard
	buf     []byte
	id      uint32
	live    int // bytes of entries that the index still has; guarded by the shard
	refs    atomic.Int32
	evicted atomic.Bool // no longer in a queue
	freed   atomic.Bool // no longer counts against the limit
}

// retire stops counting the segment against the limit, at once or when its last view is released.
func (s *segment) retire() {
	s.evicted.Store(true)
	if s.refs.Load() == 0 {
		s.free()
	}
}

func (s *segment) release() {
	if s.refs.Add(-1) == 0 && s.evicted.Load() {
		s.free()
	}
}

func (s *segment) free() {
	if !s.freed.Swap(true) {
		s.owner.bytes.Add(-int64(cap(s.buf)))
	}
}

// location is where an entry is: its segment, its offset in units of 8 bytes, how often it was used (0 to 3), and in
// which queue it is.
type location uint64

const (
	locationUses = 3 // mask of the uses
	locationMain = 1 << 2
	locationSet  = 1 << 3 // always set, so that no location is 0
	offsetBits   = 24
)

func newLocation(segment uint32, offset int, main bool) location {
	s := location(segment)<<32 | location(offset/8)<<4 | locationSet //nolint:gosec // G115: within a segment
	if main {
		s |= locationMain
	}
	return s
}

func (s location) segment() uint32 { return uint32(s >> 32) }
func (s location) offset() int     { return int(s>>4&(1<<offsetBits-1)) * 8 }
func (s location) main() bool      { return s&locationMain != 0 }
func (s location) uses() int       { return int(s & locationUses) }

// shard is a part of the memory with its own lock.
type shard struct {
	bytes atomic.Int64 // blocks that are in use or viewed, and the index
	max   int64
	seed  maphash.Seed
	stats *memoryStats

	mu       sync.Mutex // guards what follows
	index    index
	segments []*segment       // by id; nil where the id is free
	free     []uint32         // ids
	small    queue            // new entries, a tenth of all
	main     queue            // entries that were used again
	ghosts   []uint32         // hashes of keys evicted from small, to recognize them when they come again
	hosts    map[uint64]int64 // live bytes of each host, so that no host evicts all others
}

// queue holds segments from the oldest to the newest, which is being filled.
type queue struct {
	segments []*segment
	bytes    int64
}

func (s *shard) init(maxBytes int64, seed maphash.Seed, stats *memoryStats) {
	s.max, s.seed, s.stats = maxBytes, seed, stats
	s.hosts = map[uint64]int64{}
	n := 1024
	for int64(n)*512 < maxBytes {
		n *= 2
	}
	s.ghosts = make([]uint32, n)
	s.bytes.Add(int64(4 * n))
}

func (s *shard) get(hash uint64, key []byte, now int64) ([]byte, *segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.index.find(hash)
	if found == nil {
		return nil, nil
	}
	at := *found
	seg := s.segments[at.segment()]
	b := seg.buf[at.offset():]
	if !equal(encodedKey(b), key) {
		return nil, nil
	}
	if encodedExpires(b) <= now {
		s.forget(hash, at)
		return nil, nil
	}
	if at.uses() < locationUses {
		*found++
	}
	seg.refs.Add(1)
	return b, seg
}

func (s *shard) put(hash uint64, encoded []byte, now int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if int64(len(encoded)) > s.max/2 {
		s.remove(hash, encodedKey(encoded))
		s.stats.refused.Add(1)
		return false
	}
	var toMain bool
	if found := s.index.find(hash); found != nil {
		toMain = found.main() || found.uses() > 0
		s.forget(hash, *found)
	} else {
		toMain = s.isGhost(hash)
	}
	if !s.makeRoom(len(encoded), now) {
		s.stats.refused.Add(1)
		return false
	}
	s.append(hash, encoded, toMain)
	s.stats.stored.Add(1)
	return true
}

func (s *shard) drop(hash uint64, key []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(hash, key)
}

func (s *shard) clear(space KeySpace) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var gone []cell
	for _, c := range s.index.cells {
		if c.loc != 0 && encodedKey(s.segments[c.loc.segment()].buf[c.loc.offset():])[0] == byte(space) {
			gone = append(gone, c)
		}
	}
	for _, c := range gone {
		s.forget(c.hash, c.loc)
	}
}

// remove removes the entry of a key. The caller holds mu, as for all methods below.
func (s *shard) remove(hash uint64, key []byte) {
	if at := s.index.find(hash); at != nil && equal(encodedKey(s.segments[at.segment()].buf[at.offset():]), key) {
		s.forget(hash, *at)
	}
}

// append writes an entry to the newest segment of a queue.
func (s *shard) append(hash uint64, encoded []byte, toMain bool) {
	q := &s.small
	if toMain {
		q = &s.main
	}
	seg := s.segmentFor(q, len(encoded))
	offset := len(seg.buf)
	padded := (len(encoded) + 7) &^ 7
	seg.buf = append(seg.buf, encoded...)
	seg.buf = seg.buf[:offset+padded]
	seg.live += padded
	s.bytes.Add(int64(s.index.set(hash, newLocation(seg.id, offset, toMain))))
	s.hosts[encodedHost(encoded)] += int64(padded)
}

// segmentFor returns a segment with room for size bytes: the newest of the queue, or a new one.
func (s *shard) segmentFor(q *queue, size int) *segment {
	size = (size + 7) &^ 7
	if n := len(q.segments); n > 0 && size <= largeEntry {
		if seg := q.segments[n-1]; cap(seg.buf)-len(seg.buf) >= size {
			return seg
		}
	}
	room := segmentSize
	if size > largeEntry {
		room = size
	}
	seg := &segment{owner: s, buf: make([]byte, 0, room)}
	if n := len(s.free); n > 0 {
		seg.id, s.free = s.free[n-1], s.free[:n-1]
		s.segments[seg.id] = seg
	} else {
		seg.id = uint32(len(s.segments)) //nolint:gosec // G115: bounded by the limit in bytes
		s.segments = append(s.segments, seg)
	}
	q.segments = append(q.segments, seg)
	if n := len(q.segments); size > largeEntry && n > 1 { // the segment that is being filled stays the newest
		if before := q.segments[n-2]; cap(before.buf)-len(before.buf) >= 256 {
			q.segments[n-1], q.segments[n-2] = before, seg
		}
	}
	q.bytes += int64(cap(seg.buf))
	s.bytes.Add(int64(cap(seg.buf)))
	return seg
}

// forget removes an entry from the index. Its bytes stay until their segment is evicted.
func (s *shard) forget(hash uint64, at location) {
	seg := s.segments[at.segment()]
	b := seg.buf[at.offset():]
	padded := (encodedSize(b) + 7) &^ 7
	seg.live -= padded
	host := encodedHost(b)
	if s.hosts[host] -= int64(padded); s.hosts[host] <= 0 {
		delete(s.hosts, host)
	}
	s.index.remove(hash)
}
