package kvcache

// Home returns the node that fetches a key for all nodes: the one with the highest weight for the key (rendezvous
// hashing, Thaler and Ravishankar 1998). So only the keys of a node that joins or leaves move. It returns "" if there
// are no nodes.
func Home(key []byte, nodes []string) string {
	best, highest := "", uint64(0)
	for _, node := range nodes {
		if n := weigh(node, key); best == "" || n > highest || (n == highest && node < best) {
			best, highest = node, n
		}
	}
	return best
}

// weigh is FNV-1a over both, with the finalizer of SplitMix64: the last bytes hardly affect the high bits of FNV.
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
