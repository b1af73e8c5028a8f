package kvcache

import "sync"

// seen remembers which URLs had entries here: no false no, a few false yes (Bloom 1970, in two generations). It keeps
// the log of purges free of what concerns nobody. The zero value has seen nothing; it is safe for concurrent use.
type seen struct {
	mu     sync.RWMutex // guards what follows
	now    []uint64     // bits
	before []uint64
	count  int
	forgot bool // a generation was thrown away: anything may have been seen
}

const (
	seenBits = 1 << 22 // of a generation: 512 KiB
	seenMax  = seenBits / 8
)

func (s *seen) add(hash uint64) {
	if hash == 0 || s.has(hash, true) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now == nil {
		s.now = make([]uint64, seenBits/64)
	}
	if s.count++; s.count > seenMax {
		s.forgot = s.forgot || s.before != nil
		s.before, s.now, s.count = s.now, make([]uint64, seenBits/64), 1
	}
	for i := range 4 {
		bit := place(hash, i)
		s.now[bit/64] |= 1 << (bit % 64)
	}
}

// has reports whether a hash may have been seen; lately asks for the newest generation only.
func (s *seen) has(hash uint64, lately bool) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return holds(s.now, hash) || (!lately && (s.forgot || holds(s.before, hash)))
}

func holds(bits []uint64, hash uint64) bool {
	if bits == nil {
		return false
	}
	for i := range 4 {
		if bit := place(hash, i); bits[bit/64]&(1<<(bit%64)) == 0 {
			return false
		}
	}
	return true
}

// place is the ith bit of a hash (Kirsch and Mitzenmacher 2006).
func place(hash uint64, i int) uint64 {
	return (hash + uint64(i)*(hash>>32|1)) % seenBits //nolint:gosec // G115: a few
}
