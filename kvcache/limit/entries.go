package limit

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
)

// entries are those of a shard: an open table with linear probing. Keys are hashes already. A map of the language
// doubles its room, and all shards do so at about the same number of keys, so that a key costs up to 135 bytes; this
// one grows by a quarter, and a key costs 70 to 90. It shrinks too.
type entries struct {
	cells []cell
	n     int
	seed  [2]uint64 // so that nobody chooses clients whose keys lie together
}

// cell is free if its entry lacks the flag taken.
type cell struct {
	key Key
	e   entry
}

// fullest is how full the table gets, in fifths.
const fullest = 4

func newEntries() entries {
	return entries{seed: [2]uint64{rand.Uint64(), rand.Uint64()}} //nolint:gosec // G404: unknown to others is enough
}

// home is where a key belongs.
func (t *entries) home(key *Key) int {
	hi, lo := bits.Mul64(binary.LittleEndian.Uint64(key[:8])^t.seed[0], binary.LittleEndian.Uint64(key[8:])^t.seed[1])
	at, _ := bits.Mul64(hi^lo, uint64(len(t.cells)))
	return int(at) //nolint:gosec // G115: less than the number of cells
}

// find gives where a key is, or the free cell where it belongs.
func (t *entries) find(key *Key) (i int, found bool) {
	if len(t.cells) == 0 {
		return 0, false
	}
	for i = t.home(key); t.cells[i].e.flags&taken != 0; i = t.next(i) {
		if t.cells[i].key == *key {
			return i, true
		}
	}
	return i, false
}

func (t *entries) next(i int) int {
	if i++; i == len(t.cells) {
		return 0
	}
	return i
}

// get gives the entry of a key, and an empty one if there is none.
func (t *entries) get(key Key) (entry, bool) {
	i, found := t.find(&key)
	if !found {
		return entry{}, false
	}
	return t.cells[i].e, true
}

func (t *entries) set(key Key, e entry) {
	i, found := t.find(&key)
	if !found {
		if 5*(t.n+1) > fullest*len(t.cells) {
			t.resize(len(t.cells) + len(t.cells)/4 + 8)
			i, _ = t.find(&key)
		}
		t.n++
	}
	e.flags |= taken
	t.cells[i] = cell{key, e}
}

func (t *entries) resize(size int) {
	before := t.cells
	t.cells = make([]cell, size)
	for i := range before {
		if c := &before[i]; c.e.flags&taken != 0 {
			at, _ := t.find(&c.key)
			t.cells[at] = *c
		}
	}
}

func (t *entries) drop(key Key) {
	if i, found := t.find(&key); found {
		t.dropAt(i)
	}
}

// dropAt frees a cell and moves those after it up that wouldn't be found any more.
func (t *entries) dropAt(i int) {
	t.n--
	for j := t.next(i); t.cells[j].e.flags&taken != 0; j = t.next(j) {
		home := t.home(&t.cells[j].key)
		stays := i < home && home <= j
		if i > j { // around the end
			stays = i < home || home <= j
		}
		if !stays {
			t.cells[i] = t.cells[j]
			i = j
		}
	}
	t.cells[i] = cell{}
}

// dropIf drops what ended tells, and makes the table smaller if little is left.
func (t *entries) dropIf(ended func(*entry) bool) {
	for i := 0; i < len(t.cells); {
		if e := &t.cells[i].e; e.flags&taken != 0 && ended(e) {
			t.dropAt(i) // another one may be there by now
			continue
		}
		i++
	}
	if len(t.cells) > 64 && 4*t.n < len(t.cells) {
		t.resize(t.n + t.n/2 + 8)
	}
}

// some gives a key for which better tells true, if a few tries find one, or else any. There must be one.
func (t *entries) some(better func(*entry) bool) Key {
	const tries = 8
	i := rand.IntN(len(t.cells)) //nolint:gosec // G404: any will do
	for n := 0; ; i = t.next(i) {
		c := &t.cells[i]
		if c.e.flags&taken == 0 {
			continue
		}
		if n++; n == tries || n == t.n || better(&c.e) {
			return c.key
		}
	}
}
