package config

// marks is the places of a file that have a mistake, as a tree of keys and indexes. The zero value has none.
type marks struct {
	root  mark
	paths [][]string // in the order of their coming
}

// mark is one place. within counts the marks at the place and below it.
type mark struct {
	here, within int
	below        map[string]*mark
}

func (m *marks) add(path []string) {
	m.paths = append(m.paths, path)
	m.count(path, 1)
}

// undo forgets all but the first n marks.
func (m *marks) undo(n int) {
	for _, path := range m.paths[n:] {
		m.count(path, -1)
	}
	m.paths = m.paths[:n]
}

func (m *marks) count(path []string, by int) {
	at := &m.root
	at.within += by
	for _, step := range path {
		next := at.below[step]
		if next == nil {
			next = new(mark)
			if at.below == nil {
				at.below = map[string]*mark{}
			}
			at.below[step] = next
		}
		next.within += by
		at = next
	}
	at.here += by
}

// mistaken reports whether the place, or one that it lies in, has a mistake already.
func (m *marks) mistaken(path ...string) bool {
	at := &m.root
	for _, step := range path {
		if at.here > 0 {
			return true
		}
		if at = at.below[step]; at == nil {
			return false
		}
	}
	return at.here > 0
}

// mistakenKeys names what has a mistake directly below the place, or further below.
func (m *marks) mistakenKeys(path ...string) []string {
	at := &m.root
	for _, step := range path {
		if at = at.below[step]; at == nil {
			return nil
		}
	}
	var keys []string
	for key, next := range at.below {
		if next.within > 0 {
			keys = append(keys, key)
		}
	}
	return keys
}
