package kvcache

// index maps hashes of keys to slots: one flat table without pointers, probed from each hash's own place on, so that a
// look-up touches one line of memory, and what it found can be changed in place. The zero value is ready.
type index struct {
	cells []cell
	used  int
}

// cell is one place; a slot of 0 is free, since no entry has it (newSlot).
type cell struct {
	hash uint64
	slot slot
}

const cellSize = 16

// find gives the place of a hash, or nil. It is good until the table changes.
func (x *index) find(hash uint64) *slot {
	if x.used == 0 {
		return nil
	}
	mask := uint64(len(x.cells) - 1) //nolint:gosec // G115: not empty
	for i := x.home(hash); ; i = (i + 1) & mask {
		c := &x.cells[i]
		if c.slot == 0 {
			return nil
		}
		if c.hash == hash {
			return &c.slot
		}
	}
}

// set adds a hash that isn't there, and gives by how many bytes the table has grown.
func (x *index) set(hash uint64, s slot) (grown int) {
	if 4*(x.used+1) > 3*len(x.cells) {
		grown = x.grow()
	}
	x.used++
	mask := uint64(len(x.cells) - 1) //nolint:gosec // G115: see above
	for i := x.home(hash); ; i = (i + 1) & mask {
		if x.cells[i].slot == 0 {
			x.cells[i] = cell{hash, s}
			return grown
		}
	}
}

// remove takes out a hash that is there. Those behind it move up, so that no search ends too early.
func (x *index) remove(hash uint64) {
	mask := uint64(len(x.cells) - 1) //nolint:gosec // G115: see above
	i := x.home(hash)
	for x.cells[i].hash != hash || x.cells[i].slot == 0 {
		i = (i + 1) & mask
	}
	x.used--
	for j := (i + 1) & mask; x.cells[j].slot != 0; j = (j + 1) & mask {
		if home := x.home(x.cells[j].hash); (j-home)&mask >= (j-i)&mask {
			x.cells[i] = x.cells[j]
			i = j
		}
	}
	x.cells[i] = cell{}
}

// home is where the search for a hash begins. The low bits choose the shard.
func (x *index) home(hash uint64) uint64 {
	return (hash >> 16) & uint64(len(x.cells)-1) //nolint:gosec // G115: see above
}

func (x *index) grow() int {
	before := x.cells
	x.cells = make([]cell, max(2*len(before), 64))
	x.used = 0
	for _, c := range before {
		if c.slot != 0 {
			x.set(c.hash, c.slot)
		}
	}
	return (len(x.cells) - len(before)) * cellSize
}
