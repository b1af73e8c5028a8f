package kvcache

import "sync"

// seenURLs remembers which URLs had entries here, in a Bloom filter of two generations (Bloom 1970): it has no false
// negatives and few false positives. It keeps purges that concern nobody out of the log. The zero value is empty. It is
// safe for concurrent use.
type seenURLs struct {
	mu         sync.RWMutex // guards what follows
	current    []uint64     // bits
	previous   []uint64
	count      int
	incomplete bool // a generation was dropped: anything may have been seen
}

const (
	seenBits = 1 << 22 // of a generation: 512 KiB
	maxSeen  = seenBits / 8
)

func (s *seenURLs) add(hash uint64) {
	if hash == 0 || s.has(hash, true) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		s.current = make([]uint64, seenBits/64)
	}
	if s.count++; s.count > maxSeen {
		s.incomplete = s.incomplete || s.previous != nil
		s.previous, s.current, s.count = s.current, make([]uint64, seenBits/64), 1
	}
	for i := range 4 {
		bit := bitOf(hash, i)
		s.current[bit/64] |= 1 << (bit % 64)
	}
}

// has reports whether a hash may have been seen. With lately it looks only at the newest generation.
func (s *seenURLs) has(hash uint64, lately bool) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return hasBits(s.current, hash) || (!lately && (s.incomplete || hasBits(s.previous, hash)))
}

func hasBits(bits []uint64, hash uint64) bool {
	if bits == nil {
		return false
	}
	for i := range 4 {
		if bit := bitOf(hash, i); bits[bit/64]&(1<<(bit%64)) == 0 {
			return false
		}
	}
	return true
}

// bitOf returns the ith bit of a hash (Kirsch and Mitzenmacher 2006).
func bitOf(hash uint64, i int) uint64 {
	return (hash + uint64(i)*(hash>>32|1)) % seenBits //nolint:gosec // G115: a few
}
