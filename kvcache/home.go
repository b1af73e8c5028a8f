package kvcache

// Home gives the node that fetches a key for all: the one whose name makes the highest number with it (rendezvous
// hashing, Thaler and Ravishankar 1998), so that a node that comes or goes moves only its own keys. Empty if there is
// no node.
func Home(key []byte, nodes []string) string {
	best, highest := "", uint64(0)
	for _, node := range nodes {
		if n := weigh(node, key); best == "" || n > highest || (n == highest && node < best) {
			best, highest = node, n
		}
	}
	return best
}

// weigh is FNV-1a over both, with the finish of SplitMix64, which FNV lacks: its last bytes hardly reach the high bits.
func weigh(node string, key []byte) uint64 {
	const prime = 1099511628211
	h := uint64(14695981039346656037)
	for i := range len(node) {
		h = (h ^ uint64(node[i])) * prime
	}
	h *= prime
	for _, c := range key {
		h = (h ^ uint64(c)) * prime
	}
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
