package kvcache

import "bytes"

// pathPurges holds the purges of a path on any host and scheme: their texts begin with a slash. It isn't safe for
// concurrent use.
type pathPurges struct {
	exact    map[string]purgeSeqs // path with query
	prefixes prefixPurges
}

// isPathPurge reports whether a purge is about a path.
func isPathPurge(reach Reach, text string) bool {
	return (reach == ReachURL || reach == ReachPrefix) && text != "" && text[0] == '/'
}

// add stores a purge. It reports false if there are too many prefixes.
func (p *pathPurges) add(reach Reach, text string, sequence uint64, soft bool) (ok bool) {
	if reach == ReachURL {
		if p.exact == nil {
			p.exact = map[string]purgeSeqs{}
		}
		p.exact[text] = p.exact[text].add(sequence, soft)
		return true
	}
	return p.prefixes.add(text, sequence, soft)
}

// newest returns the newest purge of a URL's path.
func (p *pathPurges) newest(url []byte) (newest purgeSeqs) {
	if len(p.exact) == 0 && p.prefixes.count == 0 {
		return purgeSeqs{}
	}
	path := pathOf(url)
	return p.exact[string(path)].max(p.prefixes.newest(path))
}

// pathOf returns what follows the host in a URL; nil if nothing does.
func pathOf(url []byte) []byte {
	_, rest, ok := bytes.Cut(url, []byte("://"))
	i := bytes.IndexByte(rest, '/')
	if !ok || i < 0 {
		return nil
	}
	return rest[i:]
}

// dropBefore drops the purges before a floor.
func (p *pathPurges) dropBefore(floor uint64) {
	dropBefore(p.exact, floor)
	p.prefixes.dropBefore(floor)
}
