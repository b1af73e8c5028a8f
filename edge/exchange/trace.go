package exchange

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"strings"
)

// Traceparent returns the Traceparent for the member (W3C Trace Context, level 1). If the client's is valid, its trace
// continues with a new parent id, and continued is true. Otherwise a trace begins that isn't sampled.
func Traceparent(inbound string) (value string, continued bool) {
	const length = len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	var raw [24]byte
	var out [length]byte
	random(raw[:])
	copy(out[:], "00-")
	hex.Encode(out[3:35], raw[:16])
	out[35] = '-'
	hex.Encode(out[36:52], raw[16:])
	copy(out[52:], "-00")
	if validTraceparent(inbound) {
		copy(out[3:35], inbound[3:35])
		copy(out[52:], inbound[52:length])
		continued = true
	}
	return string(out[:]), continued
}

// validTraceparent reports whether s is valid in version 00, or has the valid form of a later version.
func validTraceparent(s string) bool {
	if len(s) < 55 || s[2] != '-' || s[35] != '-' || s[52] != '-' || s[:2] == "ff" || (s[:2] == "00" && len(s) != 55) {
		return false
	}
	for _, part := range [...]string{s[:2], s[3:35], s[36:52], s[53:55]} {
		if strings.Trim(part, "0123456789abcdef") != "" {
			return false
		}
	}
	return strings.Trim(s[3:35], "0") != "" && strings.Trim(s[36:52], "0") != ""
}

// random fills b, whose length is a multiple of 8.
func random(b []byte) {
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, rand.Uint64()) //nolint:gosec // G404: ids are names, not secrets
		b = b[8:]
	}
}
