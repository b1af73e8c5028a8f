package kvcache

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
)

// Validity is the state of an entry under the purges.
type Validity int

// The states of an entry.
const (
	Valid   Validity = iota
	Stale            // a soft purge reached it: it counts as stale
	Invalid          // a hard purge reached it: it must not be used
)

// Reach is the kind of a purge: what it applies to.
type Reach string

// The kinds of purges.
const (
	ReachURL    Reach = "url"    // all variants of one URL, or of a path (/...) on every host
	ReachPrefix Reach = "prefix" // every URL that begins with the text, or every such path on every host
	ReachHost   Reach = "host"
	ReachTag    Reach = "tag"
	ReachAll    Reach = "all"

	reachFloor Reach = "floor" // every entry from before the sequence in the text; replaces many old purges
	reachLease Reach = "lease" // nothing: a node renews its lease
)

// Hash identifies a URL, host or tag in a Scope. If two texts have the same hash, a purge only reaches too much.
func Hash(reach Reach, text string) uint64 {
	sum := sha256.Sum256([]byte(string(reach) + "\x00" + text))
	return max(binary.LittleEndian.Uint64(sum[:]), 1)
}

// purgeSeqs has the sequences of the latest hard and soft purge of something.
type purgeSeqs struct{ hard, soft uint64 }

// epochs holds the purges that a node knows. It is safe for concurrent use.
type epochs struct {
	mu          sync.RWMutex // guards what follows
	incarnation uint64
	applied     uint64
	floor       uint64
	all         purgeSeqs
	named       map[uint64]purgeSeqs // URLs, hosts and tags, by Hash
	prefixes    prefixPurges
	paths       pathPurges
	changed     chan struct{}  // closed and replaced when applied grows
	pending     map[uint64]int // number of unwritten invalidations of URLs and tags, by Hash
}

// Limits on what is remembered. Beyond maxPurges the older half becomes a floor. Beyond maxPrefixes a further prefix
// purges everything.
const (
	maxPurges   = 100_000
	maxPrefixes = 1_000
)

func newEpochs() *epochs {
	e := &epochs{changed: make(chan struct{}), pending: map[uint64]int{}}
	e.reset(0)
	return e
}

// reset starts with another incarnation of the log.
func (e *epochs) reset(incarnation uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.incarnation, e.applied, e.floor, e.all = incarnation, 0, 0, purgeSeqs{}
	e.named, e.prefixes, e.paths = map[uint64]purgeSeqs{}, prefixPurges{}, pathPurges{}
}

// apply applies the purge of that sequence.
func (e *epochs) apply(sequence uint64, reach Reach, text string, soft bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if sequence <= e.applied {
		return
	}
	switch reach {
	case ReachURL, ReachPrefix, ReachHost, ReachTag:
		e.remember(sequence, reach, text, soft)
	case ReachAll:
		e.all = e.all.add(sequence, soft)
	case reachFloor:
		e.raiseFloor(text)
	case reachLease:
	}
	e.applied = sequence
	close(e.changed)
	e.changed = make(chan struct{})
}

// remember stores a purge of a URL, prefix, host or tag. The caller holds mu.
func (e *epochs) remember(sequence uint64, reach Reach, text string, soft bool) {
	ok := true
	switch {
	case isPathPurge(reach, text):
		ok = e.paths.add(reach, text, sequence, soft)
	case reach == ReachPrefix:
		ok = e.prefixes.add(text, sequence, soft)
	default:
		h := Hash(reach, text)
		e.named[h] = e.named[h].add(sequence, soft)
	}
	if !ok {
		e.all = e.all.add(sequence, soft)
	}
}

func (m purgeSeqs) add(sequence uint64, soft bool) purgeSeqs {
	if soft {
		m.soft = sequence
	} else {
		m.hard = sequence
	}
	return m
}

// raiseFloor makes all entries invalid whose fetch began before the sequence in text, and forgets the purges before it.
// The caller holds mu.
func (e *epochs) raiseFloor(text string) {
	floor, ok := parseSequence(text)
	if !ok || floor <= e.floor {
		return
	}
	e.floor = floor
	e.paths.dropBefore(floor)
	e.prefixes.dropBefore(floor)
	dropBefore(e.named, floor)
}

// now returns the epoch for a fetch that begins now.
func (e *epochs) now() Epoch {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return Epoch{e.incarnation, e.applied}
}

// count returns the number of remembered purges.
func (e *epochs) count() int {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return len(e.named) + e.prefixes.count + len(e.paths.exact) + e.paths.prefixes.count
}

// validity returns the state of an entry. url is its URL, for prefixes.
func (e *epochs) validity(s *Scope, url []byte) Validity {
	if s.URL == 0 {
		return Valid
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	began := s.Epoch.Sequence
	if len(e.pending) > 0 && e.isPending(s) {
		return Invalid
	}
	if s.Epoch.Incarnation != e.incarnation || e.incarnation == 0 || began < e.floor {
		return Invalid
	}
	newest := e.all.max(e.paths.newest(url))
	if len(e.named) > 0 {
		newest = newest.max(e.named[s.URL]).max(e.named[s.Host])
		for _, t := range s.Tags {
			newest = newest.max(e.named[t])
		}
	}
	newest = newest.max(e.prefixes.newest(url))
	switch {
	case newest.hard > began:
		return Invalid
	case newest.soft > began:
		return Stale
	}
	return Valid
}

// markPending makes what the purges reach invalid on this node until they are written and applied. Then the caller must
// call done.
func (e *epochs) markPending(purges []Purge) (done func()) {
	change := func(by int) {
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, p := range purges {
			h := Hash(p.Reach, p.Text)
			if e.pending[h] += by; e.pending[h] == 0 {
				delete(e.pending, h)
			}
		}
	}
	change(1)
	return func() { change(-1) }
}

// isPending reports whether an invalidation of the entry is pending. The caller holds mu.
func (e *epochs) isPending(s *Scope) bool {
	if e.pending[s.URL] > 0 {
		return true
	}
	for _, t := range s.Tags {
		if e.pending[t] > 0 {
			return true
		}
	}
	return false
}

func (m purgeSeqs) max(n purgeSeqs) purgeSeqs {
	return purgeSeqs{max(m.hard, n.hard), max(m.soft, n.soft)}
}

// reached reports whether the sequence has been applied, and returns a channel that is closed when applied grows.
func (e *epochs) reached(sequence uint64) (done bool, changed <-chan struct{}) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.applied >= sequence, e.changed
}

// median returns a sequence in the middle between the oldest remembered purge of a URL, path, host or tag and the
// newest.
func (e *epochs) median() uint64 {
	e.mu.RLock()
	defer e.mu.RUnlock()
	lowest := e.applied
	for _, m := range e.named {
		lowest = min(lowest, max(m.hard, m.soft))
	}
	for _, m := range e.paths.exact {
		lowest = min(lowest, max(m.hard, m.soft))
	}
	return lowest + (e.applied-lowest)/2
}
