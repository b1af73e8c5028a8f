package exchange

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
)

// NewID returns an id of 128 random bits in hexadecimal. It names a request and isn't fit for secrets.
func NewID() string {
	var out [32]byte
	WriteID(&out)
	return string(out[:])
}

// WriteID writes an id like that of NewID into out.
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
