package guard

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// ErrFile means that a file can't be read, or is shorter than the part of it that is to be sent.
var ErrFile = errors.New("the file can't be read up to the end of what is sent")

// SendFile is Send for a head and length bytes of f from offset on, which answer the request. It doesn't use the file's
// own position, so any number of connections may send parts of one file at once. It returns how many bytes of the file
// were sent. The error is ErrFile if the bytes of the file aren't there. After any error the client has a part of the
// response at most: call Break.
func (c *Conn) SendFile(head []byte, f *os.File, offset, length int64) (n int64, err error) {
	c.beginSend(true)
	if length > 0 && c.files.open(c.Conn) {
		left, done, err := c.sendFile(head, f, offset, length)
		if err != nil || done == length {
			return done, err
		}
		head, n = left, done // the file's system can't do it
	}
	more, err := c.copyFile(head, f, offset+n, length-n)
	return n + more, err
}

// filePieces has the memory through which copyFile copies.
var filePieces = sync.Pool{New: func() any { return new([slowPiece]byte) }}

// copyFile is SendFile where the system can't send from a file to the connection.
func (c *Conn) copyFile(head []byte, f *os.File, offset, length int64) (n int64, err error) {
	piece := filePieces.Get().(*[slowPiece]byte)
	defer filePieces.Put(piece)
	for first := true; n < length || first; first = false {
		p := piece[:min(length-n, slowPiece)]
		if have, err := f.ReadAt(p, offset+n); have < len(p) {
			return n, fileError(err)
		}
		switch {
		case len(head) == 0:
			err = c.Send(true, p)
		case len(p) == 0:
			err = c.Send(true, head)
		default:
			err = c.Send(true, head, p)
		}
		if err != nil {
			return n, err
		}
		head, n = nil, n+int64(len(p))
	}
	return n, nil
}

// fileError returns ErrFile with its cause; nil stands for the end of the file.
func fileError(cause error) error {
	if cause == nil {
		cause = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%w: %w", ErrFile, cause)
}
