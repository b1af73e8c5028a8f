package kvcache

// index maps hashes of keys to locations. It is a flat table without pointers, with linear probing, so that a lookup
// touches one cache line and its result can be changed in place. The zero value is ready to use.
type index struct {
	cells []cell
	used  int
}

// cell is an element of the table. It is free if loc is 0, which no entry has (newLocation).
type cell struct {
	hash uint64
	loc  location
}

const cellSize = 16

// find returns the location of a hash, or nil. The pointer is valid until the table changes.
func (x *index) find(hash uint64) *location {
	if x.used == 0 {
		return nil
	}
	mask := uint64(len(x.cells) - 1) //nolint:gosec // G115: not empty
	for i := x.home(hash); ; i = (i + 1) & mask {
		c := &x.cells[i]
		if c.loc == 0 {
			return nil
		}
		if c.hash == hash {
			return &c.loc
		}
	}
}

// set adds a hash that isn't there, and returns by how many bytes the table has grown.
func (x *index) set(hash uint64, s location) (grown int) {
	if 4*(x.used+1) > 3*len(x.cells) {
		grown = x.grow()
	}
	x.used++
	mask := uint64(len(x.cells) - 1) //nolint:gosec // G115: see above
	for i := x.home(hash); ; i = (i + 1) & mask {
		if x.cells[i].loc == 0 {
			x.cells[i] = cell{hash, s}
			return grown
		}
	}
}

// remove removes a hash that is there. It moves later cells up whose search would otherwise end at the free cell.
func (x *index) remove(hash uint64) {
	mask := uint64(len(x.cells) - 1) //nolint:gosec // G115: see above
	i := x.home(hash)
	for x.cells[i].hash != hash || x.cells[i].loc == 0 {
		i = (i + 1) & mask
	}
	x.used--
	for j := (i + 1) & mask; x.cells[j].loc != 0; j = (j + 1) & mask {
		if home := x.home(x.cells[j].hash); (j-home)&mask >= (j-i)&mask {
			x.cells[i] = x.cells[j]
			i = j
		}
	}
	x.cells[i] = cell{}
}

// home returns where the search for a hash starts. It ignores the low bits, which choose the shard.
func (x *index) home(hash uint64) uint64 {
	return (hash >> 16) & uint64(len(x.cells)-1) //nolint:gosec // G115: see above
}

func (x *index) grow() int {
	before := x.cells
	x.cells = make([]cell, max(2*len(before), 64))
	x.used = 0
	for _, c := range before {
		if c.loc != 0 {
			x.set(c.hash, c.loc)
		}
	}
	return (len(x.cells) - len(before)) * cellSize
}
