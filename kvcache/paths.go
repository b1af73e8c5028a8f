package kvcache

import "bytes"

// pathMarks are the purges of a path whatever its host and scheme are: those whose text begins with a slash. Not safe
// for concurrent use.
type pathMarks struct {
	exact    map[string]mark // path with query
	prefixes prefixMarks
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
	return p.prefixes.add(text, sequence, soft)
}

// newest is the newest purge of a URL's path.
func (p *pathMarks) newest(url []byte) (newest mark) {
	if len(p.exact) == 0 && p.prefixes.count == 0 {
		return mark{}
	}
	path := pathOf(url)
	return p.exact[string(path)].or(p.prefixes.newest(path))
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
	forget(p.exact, floor)
	p.prefixes.forget(floor)
}
