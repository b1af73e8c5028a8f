package kvcache

import "hash/maphash"

// smallShare is the part of a shard for new entries: one tenth (S3-FIFO §4).
const smallShare = 10

// maxSecondChances limits how many segments in a row may keep all of their entries when room is made. After that the
// oldest segment is dropped with its used entries.
const maxSecondChances = 16

// makeRoom evicts the oldest segments until size more bytes fit. It reports false if views keep too much in use.
func (s *shard) makeRoom(size int, now int64) bool {
	need := int64(max(size, segmentSize))
	kept := 0
	for s.bytes.Load()+need > s.max {
		q, toMain := &s.main, true
		if s.small.bytes*smallShare > s.max || len(s.main.segments) == 0 {
			q, toMain = &s.small, false
		}
		if len(q.segments) == 0 {
			return false
		}
		before := s.bytes.Load()
		s.evict(q, toMain, kept < maxSecondChances, now)
		if s.bytes.Load() >= before {
			kept++
		}
	}
	return true
}

// evict removes the oldest segment of a queue. Entries used since they were stored move to the main queue.
func (s *shard) evict(q *queue, fromMain, secondChance bool, now int64) {
	seg := q.segments[0]
	q.segments[0] = nil
	q.segments = q.segments[1:]
	q.bytes -= int64(cap(seg.buf))
	for offset := 0; offset < len(seg.buf) && seg.live > 0; {
		b := seg.buf[offset:]
		size := encodedSize(b)
		hash := maphash.Bytes(s.seed, encodedKey(b))
		if at := s.index.find(hash); at != nil && at.segment() == seg.id && at.offset() == offset {
			s.evictEntry(hash, *at, b[:size], fromMain, secondChance, now)
		}
		offset += (size + 7) &^ 7
	}
	s.segments[seg.id] = nil
	s.free = append(s.free, seg.id)
	seg.retire()
}

// evictEntry keeps or drops one entry of an evicted segment.
func (s *shard) evictEntry(hash uint64, at location, encoded []byte, fromMain, secondChance bool, now int64) {
	keep := at.uses() > 0 || s.protected(encodedHost(encoded))
	s.forget(hash, at)
	switch {
	case encodedExpires(encoded) <= now:
	case keep && secondChance:
		s.append(hash, encoded, true)
		if fromMain && at.uses() > 1 {
			*s.index.find(hash) += location(at.uses() - 1) //nolint:gosec // G115: at most 3
		}
	default:
		if !fromMain {
			s.addGhost(hash)
		}
		s.stats.evicted.Add(1)
	}
}

// maxProtectedHosts is up to how many hosts a shard protects small hosts.
const maxProtectedHosts = 64

// protected reports whether a host has less than half of an even share of this shard: then entries of others must not
// evict its entries.
func (s *shard) protected(host uint64) bool {
	n := len(s.hosts)
	return n > 1 && n <= maxProtectedHosts && s.hosts[host] < s.max/int64(2*n)
}

// addGhost remembers the key of an evicted entry (S3-FIFO's ghost queue). A later ghost with the same index overwrites
// it, so ghosts are about as old as in a queue of that length.
func (s *shard) addGhost(hash uint64) { s.ghosts[s.ghostIndex(hash)] = uint32(hash>>32) | 1 }

func (s *shard) isGhost(hash uint64) bool {
	i := s.ghostIndex(hash)
	if s.ghosts[i] != uint32(hash>>32)|1 {
		return false
	}
	s.ghosts[i] = 0
	return true
}

func (s *shard) ghostIndex(hash uint64) uint64 {
	return (hash >> 8) & uint64(len(s.ghosts)-1) //nolint:gosec // G115: never empty
}
