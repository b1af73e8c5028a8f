package edge

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"unsafe"

	"millrace/mesh"
	"millrace/node"
)

// identify gives the request an id and a place in its trace (W3C Trace Context, level 1). Both go on to the member; the
// id goes back to the client too. An id from a trusted proxy is kept.
func identify(next Handler) Handler {
	return func(ctx context.Context, x *Exchange) (*mesh.Response, error) {
		x.ID = x.identity(new([32]byte))
		resp, err := next(ctx, x)
		if resp != nil {
			resp.Header.Set("X-Request-Id", x.ID)
		}
		return resp, err
	}
}

// identity is the id of a trusted proxy, or a new one, written into room.
func (x *Exchange) identity(room *[32]byte) string {
	if x.trusted {
		if id := x.Header.Get("X-Request-Id"); validID(id) {
			return id
		}
	}
	writeID(room)
	return unsafe.String(&room[0], len(room))
}

// newID makes an id of 128 random bits. It names a request; it keeps no secret.
func newID() string {
	var out [32]byte
	writeID(&out)
	return string(out[:])
}

func writeID(out *[32]byte) {
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

func validID(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !node.Unreserved(c) {
			return false
		}
	}
	return true
}

// traceparent continues the trace that the client's field names, with a new parent id for the member, or begins a
// trace that isn't sampled. continued tells which.
func traceparent(inbound string) (value string, continued bool) {
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

// validTraceparent knows version 00, and what a later version has in common with it.
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
