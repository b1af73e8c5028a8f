package kvcache

// prefixPurges holds at most maxPrefixes purges of prefixes. The zero value is empty. It isn't safe for concurrent use.
type prefixPurges struct {
	groups map[int]map[string]purgeSeqs // by length
	count  int
}

// add stores a purge. It reports false if there are too many.
func (p *prefixPurges) add(text string, sequence uint64, soft bool) (ok bool) {
	group := p.groups[len(text)]
	if _, known := group[text]; !known {
		if p.count >= maxPrefixes {
			return false
		}
		p.count++
	}
	if group == nil {
		if p.groups == nil {
			p.groups = map[int]map[string]purgeSeqs{}
		}
		group = map[string]purgeSeqs{}
		p.groups[len(text)] = group
	}
	group[text] = group[text].add(sequence, soft)
	return true
}

// newest returns the newest purge of a prefix of text.
func (p *prefixPurges) newest(text []byte) (newest purgeSeqs) {
	for n, group := range p.groups {
		if n <= len(text) {
			newest = newest.max(group[string(text[:n])])
		}
	}
	return newest
}

// dropBefore drops the purges before a floor.
func (p *prefixPurges) dropBefore(floor uint64) {
	for n, group := range p.groups {
		before := len(group)
		dropBefore(group, floor)
		if p.count -= before - len(group); len(group) == 0 {
			delete(p.groups, n)
		}
	}
}

// dropBefore drops the purges before a floor.
func dropBefore[K comparable](marks map[K]purgeSeqs, floor uint64) {
	for k, m := range marks {
		if m.hard < floor && m.soft < floor {
			delete(marks, k)
		}
	}
}
