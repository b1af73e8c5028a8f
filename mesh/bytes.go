package mesh

import "unsafe"

// crlf ends a line.
var crlf = []byte("\r\n")

// unsafeString returns b as a string without a copy. b must not change afterwards.
func unsafeString(b []byte) string {
	return unsafe.String(unsafe.SliceData(b), len(b))
}
