package kvcache

import "bytes"

// pathMarks are the purges of a path whatever its host and scheme are: those whose text begins with a slash. Not safe
// for concurrent use.
type pathMarks struct {
	exact    map[string]mark         // path with query
	prefixes map[int]map[string]mark // by length
	count    int                     // of prefixes
}

// ofPath reports whether a purge is of a path.
func ofPath(reach Reach, text string) bool {
	return (reach == ReachURL || reach == ReachPrefix) && text != "" && text[0] == '/'
}

// add keeps a purge. Not ok means that there are too many prefixes.
func (p *pathMarks) add(reach Reach, text string, sequence uint64, soft bool) (ok bool) {
	if reach == ReachURL {
		if p.exact == nil {
			p.exact = map[string]mark{}
		}
		p.exact[text] = p.exact[text].with(sequence, soft)
		return true
	}
	if p.prefixes == nil {
		p.prefixes = map[int]map[string]mark{}
	}
	group := p.prefixes[len(text)]
	if _, known := group[text]; !known {
		if p.count >= maxPrefixes {
			return false
		}
		p.count++
	}
	if group == nil {
		group = map[string]mark{}
		p.prefixes[len(text)] = group
	}
	group[text] = group[text].with(sequence, soft)
	return true
}

// newest is the newest purge of a URL's path.
func (p *pathMarks) newest(url []byte) (newest mark) {
	if len(p.exact) == 0 && p.count == 0 {
		return mark{}
	}
	path := pathOf(url)
	newest = p.exact[string(path)]
	for n, group := range p.prefixes {
		if n <= len(path) {
			newest = newest.or(group[string(path[:n])])
		}
	}
	return newest
}

// pathOf is what follows the host in a URL; empty if it has none.
func pathOf(url []byte) []byte {
	_, rest, ok := bytes.Cut(url, []byte("://"))
	i := bytes.IndexByte(rest, '/')
	if !ok || i < 0 {
		return nil
	}
	return rest[i:]
}

// forget drops the purges from before a floor.
func (p *pathMarks) forget(floor uint64) {
	for text, m := range p.exact {
		if m.before(floor) {
			delete(p.exact, text)
		}
	}
	for n, group := range p.prefixes {
		for text, m := range group {
			if m.before(floor) {
				delete(group, text)
				p.count--
			}
		}
		if len(group) == 0 {
			delete(p.prefixes, n)
		}
	}
}

// before reports whether both purges are older than the sequence.
func (m mark) before(sequence uint64) bool { return m.hard < sequence && m.soft < sequence }
