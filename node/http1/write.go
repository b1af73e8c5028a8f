package http1

import (
	"strconv"

	"millrace/node"
)

// AppendLength appends a Content-Length field.
func AppendLength(b []byte, n int64) []byte {
	return append(strconv.AppendInt(append(b, "Content-Length: "...), n, 10), crlf...)
}

// AppendField appends one field line. Name and value must have been checked, as ParseFields does.
func AppendField(b []byte, name, value string) []byte {
	return append(append(append(append(b, name...), ": "...), value...), crlf...)
}

// AppendLastChunk appends the end of a chunked body (RFC 9112 §7.1) with its trailer fields.
func AppendLastChunk(b []byte, trailer node.Header) []byte {
	b = append(b, "0\r\n"...)
	for _, f := range trailer {
		b = AppendField(b, f.Name, f.Value)
	}
	return append(b, crlf...)
}
