package blob

import (
	"encoding/binary"
	"errors"

	"millrace/node"
)

// A request for chunks to other nodes (<prefix>blob.get) is a byte with the version and then, for each chunk, the
// digest of its blob and its number (4 bytes, big-endian). An answer is a byte with the version, one that says what it
// is, the position of the chunk in the request (2 bytes, big-endian), and the chunk's bytes. The node that answers has
// its own file of the blob, so it knows how long a chunk is; the node that asks checks the digest.

const (
	messageVersion = 1
	askSize        = len(node.Digest{}) + 4
	answerHead     = 4
	maxAsk         = batchParts
)

// answerKind says what an answer is.
type answerKind byte

const (
	answerChunk   answerKind = 1 // a chunk
	answerMissing answerKind = 2 // the node doesn't have the chunk
	answerEnd     answerKind = 3 // there are no more answers
)

// errMessage means that a message isn't what its subject asks for.
var errMessage = errors.New("the message isn't one about blobs")

// asked is a chunk that another node asks for.
type asked struct {
	digest node.Digest
	n      int
}

func appendAsk(b []byte, parts []part) []byte {
	b = append(b, messageVersion)
	for _, p := range parts {
		b = append(b, p.blob.Digest[:]...)
		b = binary.BigEndian.AppendUint32(b, uint32(p.n)) //nolint:gosec // G115: a number of chunks
	}
	return b
}

func readAsk(b []byte) ([]asked, error) {
	if len(b) < 1 || b[0] != messageVersion || (len(b)-1)%askSize != 0 || (len(b)-1)/askSize > maxAsk {
		return nil, errMessage
	}
	var out []asked
	for b = b[1:]; len(b) > 0; b = b[askSize:] {
		n := binary.BigEndian.Uint32(b[len(node.Digest{}):askSize])
		if n > 1<<31-1 {
			return nil, errMessage
		}
		out = append(out, asked{digest: node.Digest(b[:len(node.Digest{})]), n: int(n)})
	}
	return out, nil
}

// answer is one answer. The chunk is only as long as the message that it was read from.
type answer struct {
	kind answerKind
	at   int // position in the request
	data []byte
}

func appendAnswer(b []byte, kind answerKind, at int) []byte {
	b = append(b, messageVersion, byte(kind))
	return binary.BigEndian.AppendUint16(b, uint16(at)) //nolint:gosec // G115: at most maxAsk
}

// readAnswer reads an answer; ok is false if it is none.
func readAnswer(b []byte) (a answer, ok bool) {
	if len(b) < answerHead || b[0] != messageVersion || int64(len(b)) > answerHead+node.BlobChunk {
		return answer{}, false
	}
	a = answer{kind: answerKind(b[1]), at: int(binary.BigEndian.Uint16(b[2:])), data: b[answerHead:]}
	if a.kind < answerChunk || a.kind > answerEnd || (a.kind != answerChunk && len(a.data) > 0) {
		return answer{}, false
	}
	return a, true
}
