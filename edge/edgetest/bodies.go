package edgetest

import (
	"io"
	"strconv"
	"strings"
	"sync"

	"millrace/mesh"
)

// PacedBody is a body that comes as the test sends it.
type PacedBody struct {
	Pieces chan string
	Gone   chan struct{}
	once   sync.Once
	Broken bool // it breaks off at the end
}

// NewPacedBody makes one.
func NewPacedBody() *PacedBody {
	return &PacedBody{Pieces: make(chan string), Gone: make(chan struct{})}
}

// Read waits for the next piece, or for the end.
func (s *PacedBody) Read(p []byte) (int, error) {
	select {
	case piece, ok := <-s.Pieces:
		switch {
		case ok:
			return copy(p, piece), nil
		case s.Broken:
			return 0, io.ErrUnexpectedEOF
		}
		return 0, io.EOF
	case <-s.Gone:
		return 0, io.ErrClosedPipe
	}
}

// Close is called when nobody reads any more.
func (s *PacedBody) Close() error {
	s.once.Do(func() { close(s.Gone) })
	return nil
}

// Streams answers with a body that comes in pieces; length is announced unless it is negative.
func Streams(s *PacedBody, length int64, header ...string) Answer {
	return func(*mesh.Request, int) *mesh.Response {
		return &mesh.Response{Status: 200, Header: Fields(header...), Stream: mesh.NewBody(s), Length: length}
	}
}

// OverMessage is a number of bytes that one message doesn't take, so that such a body streams.
const OverMessage = 600_000

// Feed sends a text as pieces of 1 KiB, until nobody reads any more.
func Feed(s *PacedBody, text string) {
	for len(text) > 0 {
		n := min(len(text), 1<<10)
		select {
		case s.Pieces <- text[:n]:
		case <-s.Gone:
			return
		}
		text = text[n:]
	}
}

// Text gives n bytes of which each place is known.
func Text(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		b.WriteString(strconv.Itoa(i) + ",")
	}
	return b.String()[:n]
}

// Streamed answers with a body that streams; length is announced unless it is negative.
func Streamed(body string, length int64, header ...string) Answer {
	return func(*mesh.Request, int) *mesh.Response {
		return &mesh.Response{
			Status: 200, Header: Fields(header...), Stream: mesh.NewBody(strings.NewReader(body)),
			Length: length,
		}
	}
}

// Zeros is a reader of as many zeros as anybody wants.
type Zeros struct{}

// Read gives zeros.
func (Zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
