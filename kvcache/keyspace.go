package kvcache

// KeySpace is the first byte of every key: it says what is stored there. This is the only list of them. The letters are
// in the buckets of running clusters, so one that was used is never given another meaning.
type KeySpace byte

// The spaces. A key is a KeySpace followed by what its space says; URLs are in their canonical form.
const (
	SpaceResponse    KeySpace = 'G' // a URL, and what more of a request counts: its response, or what it varies on
	SpaceReduced     KeySpace = 'N' // likewise with the query that No-Vary-Search leaves
	SpaceSearchRule  KeySpace = 'S' // a URL without its query: the No-Vary-Search of its responses
	SpaceChunk       KeySpace = 'C' // nonce and number of a chunk of a large body
	SpaceCrossOrigin KeySpace = 'O' // a key of SpaceResponse whose cross-origin form was asked for a moment ago
	SpaceDown        KeySpace = 'D' // a key of SpaceResponse whose origin couldn't be reached a moment ago
	SpaceValue       KeySpace = 'A' // hash of the name of a value that a program or member keeps
	SpaceValueLease  KeySpace = 'L' // likewise: who loads the value
)
