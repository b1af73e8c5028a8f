package exchange

import (
	"encoding/binary"
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
	for i := 0; i < len(out); i += 16 {
		bits := rand.Uint64() //nolint:gosec // G404: ids are names, not secrets
		binary.LittleEndian.PutUint64(out[i:], hexDigits(uint32(bits>>32)))
		binary.LittleEndian.PutUint64(out[i+8:], hexDigits(uint32(bits&0xffffffff)))
	}
}

// hexDigits returns eight bytes, each the hexadecimal digit of one half byte of bits. Every hit has an id, and this
// takes a fifth of the instructions of encoding/hex.
func hexDigits(bits uint32) uint64 {
	x := uint64(bits)
	x = (x | x<<16) & 0x0000ffff0000ffff
	x = (x | x<<8) & 0x00ff00ff00ff00ff
	x = (x | x<<4) & 0x0f0f0f0f0f0f0f0f // one half byte in each byte
	letters := (x + 0x0606060606060606) >> 4 & 0x0101010101010101
	return x + 0x3030303030303030 + letters*('a'-'0'-10)
}
