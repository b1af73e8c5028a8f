package limit

import "sync"

// entry is what a node knows and holds of one key. It has no pointers, so that a million of them cost a garbage
// collection nothing.
type entry struct {
	// end of the permits; of a bucket, end of the part of its time line that is leased. In Unix nanoseconds, as all
	// times here
	until   int64
	denied  int64  // until when requests are refused without asking
	rev     uint64 // of the record when it was last seen; of a bucket, see spentTo
	permits uint32 // that may be spent
	left    uint32 // that the record had left
	leased  uint32 // size of the last lease
	active  uint16 // as in the record
	doubts  uint8  // how often in a row asking the others gave nothing
	flags   uint8
}

const (
	// known: rev and left are the record's, so that it needn't be read before it is changed.
	known uint8 = 1 << iota
	// shared: the node's own part of the window is in permits, or was.
	shared
	// taken: the entry is one, and no free cell.
	taken
)

// spentTo is up to where a bucket's time line is spent. It stands in rev, since a bucket's record is always read anew.
func (e *entry) spentTo() int64 { return int64(e.rev) } //nolint:gosec // G115: spendTo wrote it

// reaches reports whether so much of a bucket's time line is left.
func (e *entry) reaches(now, length int64) bool { return max(e.spentTo(), now)+length <= e.until }

func (e *entry) spendTo(t int64) { e.rev = uint64(t) } //nolint:gosec // G115: only spentTo reads it

const shards = 256

// table holds the entries of all rules.
type table struct {
	shards [shards]shard
	max    int // entries of a shard
}

type shard struct {
	mu      sync.Mutex // guards what follows
	entries entries
	flights map[Key]*flight
	full    int64 // until when keys without an entry begin without their own part, since entries were dropped
	_       [24]byte
}

func newTable(entries int) *table {
	t := &table{max: max(entries/shards, 1)}
	for i := range t.shards {
		t.shards[i].entries, t.shards[i].flights = newEntries(), map[Key]*flight{}
	}
	return t
}

func (t *table) of(key Key) *shard { return &t.shards[key[0]] }

// put stores an entry. If there are too many, some other makes room: what it held is lost until its window ends, never
// more than that. The caller holds the lock.
func (s *shard) put(key Key, e entry, limit int, now int64) {
	if _, found := s.entries.find(&key); !found && s.entries.n >= limit {
		s.evict(now)
	}
	s.entries.set(key, e)
}

// evict drops an entry that has ended if a few tries find one, or else any.
func (s *shard) evict(now int64) {
	victim := s.entries.some(func(e *entry) bool { return e.until < now })
	if e, _ := s.entries.get(victim); e.flags&shared != 0 {
		s.full = max(s.full, e.until)
	}
	s.entries.drop(victim)
}

// sweep drops what has ended. It looks at one shard.
func (t *table) sweep(i int, now int64) {
	s := &t.shards[i%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries.dropIf(func(e *entry) bool {
		if e.until > now || e.denied > now {
			return false
		}
		if e.flags&shared != 0 { // a clock that is set back must not begin the window again
			s.full = max(s.full, e.until)
		}
		return true
	})
}

// clear drops all entries, permits included.
func (t *table) clear() {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		s.entries.dropIf(func(e *entry) bool {
			if e.flags&shared != 0 {
				s.full = max(s.full, e.until)
			}
			return true
		})
		s.mu.Unlock()
	}
}

// len is how many entries there are.
func (t *table) len() int {
	n := 0
	for i := range t.shards {
		t.shards[i].mu.Lock()
		n += t.shards[i].entries.n
		t.shards[i].mu.Unlock()
	}
	return n
}

// forget makes all records be read again: before they are changed, and for keys that are refused.
func (t *table) forget() {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for i := range s.entries.cells {
			e := &s.entries.cells[i].e
			e.flags &^= known
			e.denied, e.doubts = 0, 0
		}
		s.mu.Unlock()
	}
}
