package kvcache

// prefixMarks are the purges of all that begins with a text. At most maxPrefixes are kept. The zero value has none; it
// is not safe for concurrent use.
type prefixMarks struct {
	groups map[int]map[string]mark // by length
	count  int
}

// add keeps a purge. Not ok means that there are too many.
func (p *prefixMarks) add(text string, sequence uint64, soft bool) (ok bool) {
	group := p.groups[len(text)]
	if _, known := group[text]; !known {
		if p.count >= maxPrefixes {
			return false
		}
		p.count++
	}
	if group == nil {
		if p.groups == nil {
			p.groups = map[int]map[string]mark{}
		}
		group = map[string]mark{}
		p.groups[len(text)] = group
	}
	group[text] = group[text].with(sequence, soft)
	return true
}

// newest is the newest purge of what a text begins with.
func (p *prefixMarks) newest(text []byte) (newest mark) {
	for n, group := range p.groups {
		if n <= len(text) {
			newest = newest.or(group[string(text[:n])])
		}
	}
	return newest
}

// forget drops the purges from before a floor.
func (p *prefixMarks) forget(floor uint64) {
	for n, group := range p.groups {
		before := len(group)
		forget(group, floor)
		if p.count -= before - len(group); len(group) == 0 {
			delete(p.groups, n)
		}
	}
}

// forget drops the purges from before a floor.
func forget[K comparable](marks map[K]mark, floor uint64) {
	for k, m := range marks {
		if m.hard < floor && m.soft < floor {
			delete(marks, k)
		}
	}
}
