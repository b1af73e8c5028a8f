package exchange

import (
	"errors"
	"io"
	"sync"

	"millrace/mesh"
)

// Sections is a body of several sections, such as the parts of multipart/byteranges. The zero value is empty.
type Sections struct {
	mu     sync.Mutex // guards what follows
	left   []section
	closed bool
}

// section is bytes or a body.
type section struct {
	data []byte
	body mesh.Body
}

// Add adds a section at the end: a body, or bytes if body is nil. Call it before Next.
func (b *Sections) Add(data []byte, body mesh.Body) { b.left = append(b.left, section{data, body}) }

// Next returns the sections in order.
func (b *Sections) Next() (mesh.Piece, error) {
	for {
		s, err := b.current()
		if err != nil {
			return mesh.Piece{}, err
		}
		if s.body == nil {
			b.drop()
			if len(s.data) > 0 {
				return mesh.Piece{Data: s.data}, nil
			}
			continue
		}
		p, err := s.body.Next() // Close ends the wait, so mu isn't held
		if !errors.Is(err, io.EOF) {
			return p, err
		}
		_ = s.body.Close() // it was read to its end
		b.drop()
	}
}

func (b *Sections) current() (section, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return section{}, ErrGone
	case len(b.left) == 0:
		return section{}, io.EOF
	}
	return b.left[0], nil
}

func (b *Sections) drop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.left) > 0 {
		b.left = b.left[1:]
	}
}

// Trailer returns nil: sections have no trailer fields.
func (b *Sections) Trailer() mesh.Header { return nil }

// Close closes the sections that weren't read.
func (b *Sections) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.left {
		if s.body != nil {
			_ = s.body.Close() // what is left isn't needed
		}
	}
	b.closed, b.left = true, nil
	return nil
}
