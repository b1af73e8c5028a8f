package upstream

import (
	"math"
	"strings"

	"millrace/mesh"
	"millrace/node"
)

// byHash selects by rendezvous hashing (Thaler and Ravishankar, 1998), weighted by share. Equal keys go to the same
// target on every node, and when a target leaves only its keys move. No target takes more than a quarter above its
// share of the requests in flight, except for minInFlight. Beyond that a request goes to its key's next target
// (Mirrokni, Thorup and Zadimoghaddam, Consistent Hashing with Bounded Loads, 2016).
func (c candidates) byHash(key uint64) int {
	var inFlight, shares int64
	for i := range c {
		inFlight += c[i].inFlight.Load()
		shares += int64(c[i].share)
	}
	best, bestScore := -1, math.Inf(-1)
	for i := range c {
		if limit := (5*(inFlight+1)*int64(c[i].share) + 4*shares - 1) / (4 * shares); c[i].inFlight.Load() >= max(limit,
			minInFlight) {
			continue
		}
		if score := c[i].score(key); score > bestScore {
			best, bestScore = i, score
		}
	}
	return max(best, 0) // all may seem full while others acquire and release
}

// minInFlight is how many requests in flight are always allowed. A browser sends six.
const minInFlight = 8

// score is the candidate's rank for a key: -share/ln(u) with u from the hash of both, uniform in (0, 1).
func (c candidate) score(key uint64) float64 {
	u := (float64(mix(key^c.hash)>>11) + 0.5) / (1 << 53)
	return -float64(c.share) / math.Log(u)
}

// hashOf hashes a text by FNV-1a, finished by mix, since the last bytes of similar texts must change all bits.
func hashOf(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return mix(h)
}

// mix is the finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// hashKey returns the hash of the configured part of the request, or false if the request doesn't have it.
func hashKey(b node.Balance, req *mesh.Request) (uint64, bool) {
	part := ""
	switch b.Hash {
	case node.HashIP:
		first, _, _ := strings.Cut(req.Header.Get("X-Forwarded-For"), ",")
		part = strings.TrimSpace(first)
	case node.HashPath:
		part, _, _ = strings.Cut(req.Target, "?")
	case node.HashHeader:
		part = req.Header.Get(b.Name)
	case node.HashCookie:
		part, _ = node.RequestPart{Cookie: true, Name: b.Name}.Of(req.Header)
	}
	return hashOf(part), part != ""
}
