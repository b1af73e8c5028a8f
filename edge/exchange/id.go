package exchange

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
)

// NewID makes an id of 128 random bits. It names a request; it keeps no secret.
func NewID() string {
	var out [32]byte
	WriteID(&out)
	return string(out[:])
}

// WriteID writes such an id into out.
func WriteID(out *[32]byte) {
	var raw [16]byte
	random(raw[:])
	hex.Encode(out[:], raw[:])
}

func random(b []byte) {
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, rand.Uint64()) //nolint:gosec // G404: ids are names, not secrets
		b = b[8:]
	}
}
