package kvcache

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
)

// Validity says what the purges leave of an entry.
type Validity int

// The validities.
const (
	Valid   Validity = iota
	Stale            // a soft purge reached it: it counts as stale
	Invalid          // a purge reached it: it is as good as gone
)

// Reach says what a purge reaches. See the constants.
type Reach string

// The reaches.
const (
	ReachURL    Reach = "url"    // all variants of one URL, or of a path (/...) on every host
	ReachPrefix Reach = "prefix" // every URL that begins with the text; likewise
	ReachHost   Reach = "host"
	ReachTag    Reach = "tag"
	ReachAll    Reach = "all"

	reachFloor Reach = "floor" // every entry from before the sequence that the text names; sums up many old purges
	reachLease Reach = "lease" // nothing: a node says that it follows the log
)

// Hash names a URL, host or tag in a Scope. Two texts of one hash only make a purge reach too far.
func Hash(reach Reach, text string) uint64 {
	sum := sha256.Sum256([]byte(string(reach) + "\x00" + text))
	return max(binary.LittleEndian.Uint64(sum[:]), 1)
}

// mark is the newest purge of something: hard and soft.
type mark struct{ hard, soft uint64 }

// epochs is what a node knows of the purges. It is safe for concurrent use.
type epochs struct {
	mu          sync.RWMutex // guards what follows
	incarnation uint64
	applied     uint64
	floor       uint64
	all         mark
	named       map[uint64]mark // URLs, hosts and tags, by Hash
	prefixes    prefixMarks
	paths       pathMarks
	changed     chan struct{}  // closed and replaced when applied grows
	pending     map[uint64]int // URLs and tags whose invalidation is on its way into the log, with their number
}

// Bounds on what is remembered. Beyond maxPurges the older half becomes a floor; beyond maxPrefixes the next one
// reaches all.
const (
	maxPurges   = 100_000
	maxPrefixes = 1_000
)

func newEpochs() *epochs {
	e := &epochs{changed: make(chan struct{}), pending: map[uint64]int{}}
	e.forget(0)
	return e
}

// forget begins with another incarnation of the log.
func (e *epochs) forget(incarnation uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.incarnation, e.applied, e.floor, e.all = incarnation, 0, 0, mark{}
	e.named, e.prefixes, e.paths = map[uint64]mark{}, prefixMarks{}, pathMarks{}
}

// apply takes in the purge of that sequence.
func (e *epochs) apply(sequence uint64, reach Reach, text string, soft bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if sequence <= e.applied {
		return
	}
	switch reach {
	case ReachURL, ReachPrefix, ReachHost, ReachTag:
		e.keep(sequence, reach, text, soft)
	case ReachAll:
		e.all = e.all.with(sequence, soft)
	case reachFloor:
		e.raise(text)
	case reachLease:
	}
	e.applied = sequence
	close(e.changed)
	e.changed = make(chan struct{})
}

// keep remembers a purge of something that has a name. The caller holds mu.
func (e *epochs) keep(sequence uint64, reach Reach, text string, soft bool) {
	room := true
	switch {
	case ofPath(reach, text):
		room = e.paths.add(reach, text, sequence, soft)
	case reach == ReachPrefix:
		room = e.prefixes.add(text, sequence, soft)
	default:
		h := Hash(reach, text)
		e.named[h] = e.named[h].with(sequence, soft)
	}
	if !room {
		e.all = e.all.with(sequence, soft)
	}
}

func (m mark) with(sequence uint64, soft bool) mark {
	if soft {
		m.soft = sequence
	} else {
		m.hard = sequence
	}
	return m
}

// raise makes every entry invalid whose fetch began before the sequence, and forgets the purges before it. The caller
// holds mu.
func (e *epochs) raise(text string) {
	floor, ok := parseSequence(text)
	if !ok || floor <= e.floor {
		return
	}
	e.floor = floor
	e.paths.forget(floor)
	e.prefixes.forget(floor)
	forget(e.named, floor)
}

// now is the epoch of a fetch that begins now.
func (e *epochs) now() Epoch {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return Epoch{e.incarnation, e.applied}
}

// count is the number of purges that are remembered.
func (e *epochs) count() int {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return len(e.named) + e.prefixes.count + len(e.paths.exact) + e.paths.prefixes.count
}

// judge says what the purges leave of an entry. url is its URL, for the prefixes.
func (e *epochs) judge(s *Scope, url []byte) Validity {
	if s.URL == 0 {
		return Valid
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	began := s.Epoch.Sequence
	if len(e.pending) > 0 && e.awaits(s) {
		return Invalid
	}
	if s.Epoch.Incarnation != e.incarnation || e.incarnation == 0 || began < e.floor {
		return Invalid
	}
	newest := e.all.or(e.paths.newest(url))
	if len(e.named) > 0 {
		newest = newest.or(e.named[s.URL]).or(e.named[s.Host])
		for _, t := range s.Tags {
			newest = newest.or(e.named[t])
		}
	}
	newest = newest.or(e.prefixes.newest(url))
	switch {
	case newest.hard > began:
		return Invalid
	case newest.soft > began:
		return Stale
	}
	return Valid
}

// pend makes what the purges reach invalid on this node until they are in the log and applied: done must follow.
func (e *epochs) pend(purges []Purge) (done func()) {
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

// awaits reports whether an invalidation of the entry is on its way. The caller holds mu.
func (e *epochs) awaits(s *Scope) bool {
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

func (m mark) or(n mark) mark { return mark{max(m.hard, n.hard), max(m.soft, n.soft)} }

// wait gives a channel that is closed when more than the sequence is known, and whether that is so already.
func (e *epochs) wait(sequence uint64) (done bool, changed <-chan struct{}) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.applied >= sequence, e.changed
}

// middle is a sequence that about half of the remembered purges are older than.
func (e *epochs) middle() uint64 {
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
