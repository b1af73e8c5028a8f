package publish

import (
	"bytes"

	"millrace/node/site"
)

// WhileRead sets what is called after the bytes of a file were read and before it is looked whether they have changed.
func (o ScanOptions) WhileRead(f func(name string, attempt int)) ScanOptions {
	o.read = f
	return o
}

// Encoder makes one coding of one content after another.
type Encoder struct{ e encoder }

// NewEncoder returns an Encoder.
func NewEncoder(coding site.Coding, best bool) (*Encoder, error) {
	e, err := newEncoder(coding, best)
	return &Encoder{e}, err
}

// Encode returns the coding of b, which is written in pieces of the size.
func (e *Encoder) Encode(b []byte, piece int) ([]byte, error) {
	var out bytes.Buffer
	e.e.begin(&out, int64(len(b)))
	for rest := b; len(rest) > 0; {
		n := min(piece, len(rest))
		if _, err := e.e.Write(rest[:n]); err != nil {
			return nil, err
		}
		rest = rest[n:]
	}
	err := e.e.Close()
	return out.Bytes(), err
}
