package config

// mistakeTree holds the paths of the values with a mistake, as a tree of keys and indexes. The zero value is empty.
type mistakeTree struct {
	root  mistakeNode
	paths [][]string // in the order in which they were added
}

// mistakeNode is one path. within counts the mistakes at the path and below it.
type mistakeNode struct {
	here, within int
	below        map[string]*mistakeNode
}

func (m *mistakeTree) add(path []string) {
	m.paths = append(m.paths, path)
	m.count(path, 1)
}

// undo removes all but the first n mistakes.
func (m *mistakeTree) undo(n int) {
	for _, path := range m.paths[n:] {
		m.count(path, -1)
	}
	m.paths = m.paths[:n]
}

func (m *mistakeTree) count(path []string, by int) {
	at := &m.root
	at.within += by
	for _, step := range path {
		next := at.below[step]
		if next == nil {
			next = new(mistakeNode)
			if at.below == nil {
				at.below = map[string]*mistakeNode{}
			}
			at.below[step] = next
		}
		next.within += by
		at = next
	}
	at.here += by
}

// mistaken reports whether the value at the path, or one that contains it, has a mistake.
func (m *mistakeTree) mistaken(path ...string) bool {
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
func (m *mistakeTree) mistakenKeys(path ...string) []string {
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
