package exchange

import (
	"context"
	"errors"
	"os"
	"slices"

	"millrace/mesh"
	"millrace/node"
)

// Stored is the head of a response that lies ready on this node: its fields are lines already. Its body is that of the
// mesh.Response, in memory that is valid until Release, or a stream. Whoever writes or copies the response must call
// Release. Release also closes the FileBody of a response of the short way.
type Stored interface {
	// AppendHead appends the field lines, in place of those that the mesh.Response doesn't have. dated reports whether
	// Date is one of them.
	AppendHead(b []byte) (lines []byte, dated bool)
	// Header returns the same fields as a list, with those that are meant for caches of this mesh only.
	Header() mesh.Header
	// Release returns the memory. Further calls do nothing.
	Release()
}

// CopyStored copies a stored response into resp and releases it. It does nothing for other responses.
func (x *Exchange) CopyStored(resp *mesh.Response) {
	s := x.Outcome.Stored
	if s == nil {
		return
	}
	resp.Header = append(s.Header(), resp.Header...)
	resp.Body = slices.Clone(resp.Body)
	s.Release()
	x.Outcome.Stored = nil
}

// FileBody is a stream that is a part of a file. A front may send it from there, in place of reading it with Next.
type FileBody interface {
	mesh.Body

	// File returns the file and which part of it is left to send. The file stays open until Close.
	File() (f *os.File, offset, length int64)
	// Sent says how many bytes were sent from the file, in place of Next. failed is set if the rest of them can't be
	// read from it; it isn't about the client.
	Sent(n int64, failed error)
}

// CloseBody closes the response's stream, if there is one. The response may be nil.
func CloseBody(resp *mesh.Response) {
	if resp != nil && resp.Stream != nil {
		_ = resp.Stream.Close() // what is left isn't needed
	}
}

// ErrGone means that the client has disconnected.
var ErrGone = node.Errorf(node.CodeCanceled, nil, "the client went away")

// Ended returns the error for a context that has ended: node.CodeTimeout after its deadline, else ErrGone.
func Ended(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return node.Errorf(node.CodeTimeout, ctx.Err(), "no answer within the deadline")
	}
	return ErrGone
}
