package limit

import "sync"

// entry is what a node knows and holds of one key. It has no pointers, so a million entries cost the garbage collector
// nothing.
type entry struct {
	// End of the permits; of a bucket, end of the leased part of its time line. All times are in Unix nanoseconds.
	until        int64
	deniedUntil  int64  // until when requests are refused from memory
	rev          uint64 // revision of the record when it was last read; of a bucket, see spentTo
	permits      uint32 // permits that may be spent
	left         uint32 // permits that the record had left
	leased       uint32 // size of the last lease
	active       uint16 // see record.active
	emptyRecalls uint8  // number of recalls in a row that returned nothing
	flags        uint8
}

const (
	// recordKnown: rev and left are those of the record, so a lease needn't read it first.
	recordKnown uint8 = 1 << iota
	// hasShare: permits includes, or included, the node's share of the window.
	hasShare
	// occupied: the cell holds an entry.
	occupied
)

// spentTo returns the end of what is spent of a bucket's time line. It is stored in rev, since a bucket's record is
// always read anew.
func (e *entry) spentTo() int64 { return int64(e.rev) } //nolint:gosec // G115: spendTo wrote it

// reaches reports whether at least length of a bucket's time line is left.
func (e *entry) reaches(now, length int64) bool { return max(e.spentTo(), now)+length <= e.until }

func (e *entry) spendTo(t int64) { e.rev = uint64(t) } //nolint:gosec // G115: only spentTo reads it

const shards = 256

// table holds the entries of all rules.
type table struct {
	shards      [shards]shard
	maxPerShard int // maximal number of entries of a shard
}

type shard struct {
	mu           sync.Mutex // guards what follows
	entries      entries
	flights      map[Key]*flight
	noShareUntil int64 // until when new entries get no share, because entries were dropped that may have spent it
	_            [24]byte
}

func newTable(entries int) *table {
	t := &table{maxPerShard: max(entries/shards, 1)}
	for i := range t.shards {
		t.shards[i].entries, t.shards[i].flights = newEntries(), map[Key]*flight{}
	}
	return t
}

func (t *table) shardOf(key Key) *shard { return &t.shards[key[0]] }

// put stores an entry. If the shard is full, it drops another entry first. The permits of that one are lost until its
// window ends. The caller holds the lock.
func (s *shard) put(key Key, e entry, limit int, now int64) {
	if _, found := s.entries.find(&key); !found && s.entries.n >= limit {
		s.evict(now)
	}
	s.entries.set(key, e)
}

// evict drops an entry that has ended if a few random tries find one, otherwise any entry.
func (s *shard) evict(now int64) {
	victim := s.entries.sample(func(e *entry) bool { return e.until < now })
	if e, _ := s.entries.get(victim); e.flags&hasShare != 0 {
		s.noShareUntil = max(s.noShareUntil, e.until)
	}
	s.entries.drop(victim)
}

// sweep drops the ended entries of one shard.
func (t *table) sweep(i int, now int64) {
	s := &t.shards[i%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries.dropIf(func(e *entry) bool {
		if e.until > now || e.deniedUntil > now {
			return false
		}
		if e.flags&hasShare != 0 { // if the clock is set back, the window must not begin again
			s.noShareUntil = max(s.noShareUntil, e.until)
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
			if e.flags&hasShare != 0 {
				s.noShareUntil = max(s.noShareUntil, e.until)
			}
			return true
		})
		s.mu.Unlock()
	}
}

// len returns the number of entries.
func (t *table) len() int {
	n := 0
	for i := range t.shards {
		t.shards[i].mu.Lock()
		n += t.shards[i].entries.n
		t.shards[i].mu.Unlock()
	}
	return n
}

// forgetRecords makes all records be read again: before they are changed, and for keys that are refused from memory.
func (t *table) forgetRecords() {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for i := range s.entries.cells {
			e := &s.entries.cells[i].e
			e.flags &^= recordKnown
			e.deniedUntil, e.emptyRecalls = 0, 0
		}
		s.mu.Unlock()
	}
}
