package limit

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
)

// entries holds the entries of a shard: an open hash table with linear probing. Keys are hashes already. A Go map
// doubles its size, and all shards do so at about the same number of keys, so that a key costs up to 135 bytes. This
// table grows by a quarter, a key costs 70 to 90 bytes, and it shrinks too.
type entries struct {
	cells []cell
	n     int
	seed  [2]uint64 // random, so that clients can't choose keys that collide
}

// cell is free unless its entry has the flag occupied.
type cell struct {
	key Key
	e   entry
}

// maxLoad is the maximal load of the table, in fifths.
const maxLoad = 4

func newEntries() entries {
	return entries{seed: [2]uint64{rand.Uint64(), rand.Uint64()}} //nolint:gosec // G404: unknown to others is enough
}

// home returns the cell where the search for a key starts.
func (t *entries) home(key *Key) int {
	hi, lo := bits.Mul64(binary.LittleEndian.Uint64(key[:8])^t.seed[0], binary.LittleEndian.Uint64(key[8:])^t.seed[1])
	at, _ := bits.Mul64(hi^lo, uint64(len(t.cells)))
	return int(at) //nolint:gosec // G115: less than the number of cells
}

// find returns the cell of a key, or the free cell where it belongs.
func (t *entries) find(key *Key) (i int, found bool) {
	if len(t.cells) == 0 {
		return 0, false
	}
	for i = t.home(key); t.cells[i].e.flags&occupied != 0; i = t.next(i) {
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

// get returns the entry of a key.
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
		if 5*(t.n+1) > maxLoad*len(t.cells) {
			t.resize(len(t.cells) + len(t.cells)/4 + 8)
			i, _ = t.find(&key)
		}
		t.n++
	}
	e.flags |= occupied
	t.cells[i] = cell{key, e}
}

func (t *entries) resize(size int) {
	before := t.cells
	t.cells = make([]cell, size)
	for i := range before {
		if c := &before[i]; c.e.flags&occupied != 0 {
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

// dropAt frees a cell and moves later entries up whose search would otherwise end at the free cell.
func (t *entries) dropAt(i int) {
	t.n--
	for j := t.next(i); t.cells[j].e.flags&occupied != 0; j = t.next(j) {
		home := t.home(&t.cells[j].key)
		stays := i < home && home <= j
		if i > j { // wrapped around the end
			stays = i < home || home <= j
		}
		if !stays {
			t.cells[i] = t.cells[j]
			i = j
		}
	}
	t.cells[i] = cell{}
}

// dropIf drops the entries for which ended returns true, and shrinks the table if few are left.
func (t *entries) dropIf(ended func(*entry) bool) {
	for i := 0; i < len(t.cells); {
		if e := &t.cells[i].e; e.flags&occupied != 0 && ended(e) {
			t.dropAt(i) // another entry may have moved here
			continue
		}
		i++
	}
	if len(t.cells) > 64 && 4*t.n < len(t.cells) {
		t.resize(t.n + t.n/2 + 8)
	}
}

// sample returns a key for which better returns true if one of 8 random tries finds one, otherwise any key. The table
// must not be empty.
func (t *entries) sample(better func(*entry) bool) Key {
	const tries = 8
	i := rand.IntN(len(t.cells)) //nolint:gosec // G404: any will do
	for n := 0; ; i = t.next(i) {
		c := &t.cells[i]
		if c.e.flags&occupied == 0 {
			continue
		}
		if n++; n == tries || n == t.n || better(&c.e) {
			return c.key
		}
	}
}
