package kvcache

import "hash/maphash"

// smallShare is the part of a shard that entries pass through first: one tenth (S3-FIFO §4).
const smallShare = 10

// maxSecondChances bounds the segments whose entries are all kept while room is made: then the oldest leaves whatever
// was asked of it.
const maxSecondChances = 16

// makeRoom lets the oldest leave until so many more bytes fit. False means that what is in use by readers leaves no
// room.
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

// evict takes the oldest segment out of a queue. Entries that were asked for since they came go on in the main queue.
func (s *shard) evict(q *queue, fromMain, chances bool, now int64) {
	seg := q.segments[0]
	q.segments[0] = nil
	q.segments = q.segments[1:]
	q.bytes -= int64(cap(seg.buf))
	for offset := 0; offset < len(seg.buf) && seg.live > 0; {
		b := seg.buf[offset:]
		size := encodedSize(b)
		hash := maphash.Bytes(s.seed, encodedKey(b))
		if at := s.index.find(hash); at != nil && at.segment() == seg.id && at.offset() == offset {
			s.leave(hash, *at, b[:size], fromMain, chances, now)
		}
		offset += (size + 7) &^ 7
	}
	s.segments[seg.id] = nil
	s.free = append(s.free, seg.id)
	seg.retire()
}

// leave decides what becomes of one entry of a segment that leaves.
func (s *shard) leave(hash uint64, at slot, encoded []byte, fromMain, chances bool, now int64) {
	wanted := at.uses() > 0 || s.protected(encodedHost(encoded))
	s.forget(hash, at)
	switch {
	case encodedExpires(encoded) <= now:
	case wanted && chances:
		s.append(hash, encoded, true)
		if fromMain && at.uses() > 1 {
			*s.index.find(hash) += slot(at.uses() - 1) //nolint:gosec // G115: at most 3
		}
	default:
		if !fromMain {
			s.noteGhost(hash)
		}
		s.stats.evicted.Add(1)
	}
}

// maxProtected bounds the hosts among which a shard is shared out.
const maxProtected = 64

// protected reports whether a host has so little here that others mustn't drive it out: less than half of its share,
// were the shard shared out evenly.
func (s *shard) protected(host uint64) bool {
	n := len(s.hosts)
	return n > 1 && n <= maxProtected && s.hosts[host] < s.max/int64(2*n)
}

// noteGhost remembers a key without its entry. A mark is overwritten by the next one of its place, so all of them are
// about as old as a queue of that length would make them.
func (s *shard) noteGhost(hash uint64) { s.ghosts[s.ghostPlace(hash)] = uint32(hash>>32) | 1 }

func (s *shard) isGhost(hash uint64) bool {
	place := s.ghostPlace(hash)
	if s.ghosts[place] != uint32(hash>>32)|1 {
		return false
	}
	s.ghosts[place] = 0
	return true
}

func (s *shard) ghostPlace(hash uint64) uint64 {
	return (hash >> 8) & uint64(len(s.ghosts)-1) //nolint:gosec // G115: never empty
}
