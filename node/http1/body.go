package http1

import "millrace/node"

// Body is a message body, or one direction of a socket, read in pieces. One goroutine calls Next and then Trailer.
// Close may be called from any goroutine.
type Body interface {
	// Next waits for the next piece, which stays valid until the following call. The error is io.EOF at the end of a
	// complete body; after any other error the body can't be completed.
	Next() (Piece, error)
	// Trailer returns the trailer fields (RFC 9110 §6.5). Call it after io.EOF.
	Trailer() node.Header
	// Close discards the rest of the body and ends a waiting Next. It doesn't block for long and may be called again.
	Close() error
}

// Piece is a part of a body.
type Piece struct {
	Data []byte
	Kind Kind
}

// Kind is what a piece holds.
type Kind uint8

// The kinds of a piece. A WebSocket message is one piece; bytes may be split anywhere.
const (
	KindBytes Kind = iota
	KindText
	KindBinary
)
