package kvcache

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

// segment is a block of encoded entries, written once from the front. It never moves and is never written again, so
// views may alias it for as long as they like; the garbage collector frees it after the last.
type segment struct {
	owner *shard
	buf   []byte
	id    uint32
	live  int // bytes of entries that the index still knows; guarded by the shard
	refs  atomic.Int32
	dead  atomic.Bool // left the queues
	freed atomic.Bool // counts no more against the limit
}

// retire takes the segment out of the account, at once or when its last view is released.
func (s *segment) retire() {
	s.dead.Store(true)
	if s.refs.Load() == 0 {
		s.free()
	}
}

func (s *segment) release() {
	if s.refs.Add(-1) == 0 && s.dead.Load() {
		s.free()
	}
}

func (s *segment) free() {
	if !s.freed.Swap(true) {
		s.owner.bytes.Add(-int64(cap(s.buf)))
	}
}

// slot says where an entry lies: its segment, its place in it in units of 8 bytes, how often it was asked for (0 to 3),
// and in which queue it is.
type slot uint64

const (
	slotUses  = 3 // mask of the uses
	slotMain  = 1 << 2
	slotTaken = 1 << 3 // always set, so that no slot is 0
	placeBits = 24
)

func newSlot(segment uint32, offset int, main bool) slot {
	s := slot(segment)<<32 | slot(offset/8)<<4 | slotTaken //nolint:gosec // G115: within a segment
	if main {
		s |= slotMain
	}
	return s
}

func (s slot) segment() uint32 { return uint32(s >> 32) }
func (s slot) offset() int     { return int(s>>4&(1<<placeBits-1)) * 8 }
func (s slot) main() bool      { return s&slotMain != 0 }
func (s slot) uses() int       { return int(s & slotUses) }

// shard is a part of the memory with a lock of its own.
type shard struct {
	bytes atomic.Int64 // blocks that are in use or still looked at, and the index
	max   int64
	seed  maphash.Seed
	stats *memoryStats

	mu       sync.Mutex // guards what follows
	index    index
	segments []*segment       // by id; nil where the id is free
	free     []uint32         // ids
	small    queue            // entries that came lately, a tenth of all
	main     queue            // those that were asked for again
	ghosts   []uint32         // marks of keys that left small unused, to know them when they come again
	hosts    map[uint64]int64 // live bytes of each host, so that none drives out all others
}

// queue is segments from the oldest to the newest, which is being filled.
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
	if !same(encodedKey(b), key) {
		return nil, nil
	}
	if encodedExpires(b) <= now {
		s.forget(hash, at)
		return nil, nil
	}
	if at.uses() < slotUses {
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

func (s *shard) clear(letter byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var gone []cell
	for _, c := range s.index.cells {
		if c.slot != 0 && encodedKey(s.segments[c.slot.segment()].buf[c.slot.offset():])[0] == letter {
			gone = append(gone, c)
		}
	}
	for _, c := range gone {
		s.forget(c.hash, c.slot)
	}
}

// remove forgets what the key has. The caller holds mu, as for all that follows.
func (s *shard) remove(hash uint64, key []byte) {
	if at := s.index.find(hash); at != nil && same(encodedKey(s.segments[at.segment()].buf[at.offset():]), key) {
		s.forget(hash, *at)
	}
}

// append writes an entry behind the newest of its queue.
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
	s.bytes.Add(int64(s.index.set(hash, newSlot(seg.id, offset, toMain))))
	s.hosts[encodedHost(encoded)] += int64(padded)
}

// segmentFor gives the segment that has room for so many bytes: the newest of the queue, or another.
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
	if n := len(q.segments); size > largeEntry && n > 1 { // the one that is being filled stays the newest
		if before := q.segments[n-2]; cap(before.buf)-len(before.buf) >= 256 {
			q.segments[n-1], q.segments[n-2] = before, seg
		}
	}
	q.bytes += int64(cap(seg.buf))
	s.bytes.Add(int64(cap(seg.buf)))
	return seg
}

// forget takes an entry out of the index. Its bytes stay until their segment leaves.
func (s *shard) forget(hash uint64, at slot) {
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
