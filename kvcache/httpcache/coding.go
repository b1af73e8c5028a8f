package httpcache

import (
	"strings"

	"millrace/node"
)

// Coding is a content coding in which a server may have a representation beside its plain form (RFC 9110 §8.4.1).
type Coding uint8

// The codings, in the order in which a server prefers them where a client doesn't.
const (
	CodingBrotli Coding = iota
	CodingZstd
	CodingGzip
	CodingIdentity
	NumCodings // how many there are
)

var codingNames = [NumCodings]string{"br", "zstd", "gzip", "identity"}

// Weights are the weights that a request gives each Coding, in thousandths; 0 means that it doesn't want it.
type Weights [NumCodings]int

// leastWeight is the weight of the plain form if a request doesn't name it: anything else that it names is preferred.
const leastWeight = 1

// AcceptedCodings returns what a request's Accept-Encoding says (RFC 9110 §12.5.3). A request without the field wants
// the plain form. It doesn't allocate for values as clients write them.
func AcceptedCodings(h node.Header) Weights {
	const unnamed = -1
	w, others := Weights{unnamed, unnamed, unnamed, unnamed}, unnamed
	for i := range h {
		if !node.SameName(h[i].Name, "Accept-Encoding") {
			continue
		}
		for word := range strings.SplitSeq(h[i].Value, ",") {
			name, weight, _ := parseWeight(word)
			if name == "*" {
				others = weight
			} else if c := codingOf(name); c < NumCodings {
				w[c] = weight
			}
		}
	}
	for c := range w {
		switch {
		case w[c] != unnamed:
		case others != unnamed:
			w[c] = others
		case Coding(c) == CodingIdentity:
			w[c] = leastWeight
		default:
			w[c] = 0
		}
	}
	return w
}

// codingOf returns the coding of a name in lower case, NumCodings if it is another.
func codingOf(name string) Coding {
	if name == "x-gzip" {
		return CodingGzip
	}
	for c, known := range codingNames {
		if name == known {
			return Coding(c)
		}
	}
	return NumCodings
}

// Best returns the coding to send of those that there are. The plain form is always there: it is sent if the request
// wants none of the others, even if it refuses that, too.
func (w *Weights) Best(there [NumCodings]bool) Coding {
	best := CodingIdentity
	for c := CodingIdentity; c > 0; {
		if c--; there[c] && w[c] > 0 && w[c] >= w[best] {
			best = c
		}
	}
	return best
}
