package limit

import (
	"encoding/binary"
	"errors"
)

// record is what the store keeps for a key. Which fields are used depends on the rule's kind.
type record struct {
	start, end int64  // fixed windows: in Unix nanoseconds
	granted    uint32 // permits leased from this window
	active     uint32 // nodes that have leased some of them; a node that has lost its entry counts again

	newest int64             // sliding windows: number of the span of spans[0]
	spans  [keptSpans]uint32 // permits leased in that span and in those before it

	last int64 // buckets: end of the leased part of the time line, in Unix nanoseconds
}

// A sliding window of length W is counted in spans of W/spansPerWindow. Any real window of that length touches one span
// more. Clocks that differ by up to a span need another one.
const (
	spansPerWindow = 30
	keptSpans      = spansPerWindow + 2
)

const recordVersion = 1

var errRecord = errors.New("the record can't be read")

// encode returns the record as the store keeps it: version, kind, and the kind's fields as varints.
func (r *record) encode(k kind) []byte {
	b := make([]byte, 2, 48)
	b[0], b[1] = recordVersion, byte(k)
	switch k {
	case fixed:
		b = binary.AppendVarint(b, r.start)
		b = binary.AppendVarint(b, r.end)
		b = binary.AppendUvarint(b, uint64(r.granted))
		b = binary.AppendUvarint(b, uint64(r.active))
	case sliding:
		b = binary.AppendVarint(b, r.newest)
		for _, n := range r.spans {
			b = binary.AppendUvarint(b, uint64(n))
		}
	case bucket:
		b = binary.AppendVarint(b, r.last)
	case concurrent: // see slotLeases
	}
	return b
}

// decodeRecord decodes what encode has written.
func decodeRecord(b []byte, k kind) (record, error) {
	var r record
	if len(b) < 2 || b[0] != recordVersion || kind(b[1]) != k {
		return r, errRecord
	}
	in := reader{b: b[2:]}
	switch k {
	case fixed:
		r.start, r.end, r.granted, r.active = in.signed(), in.signed(), in.count(), in.count()
	case sliding:
		r.newest = in.signed()
		for i := range r.spans {
			r.spans[i] = in.count()
		}
	case bucket:
		r.last = in.signed()
	case concurrent:
	}
	if in.bad || len(in.b) > 0 {
		return record{}, errRecord
	}
	return r, nil
}

// reader decodes varints from the front of b.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) signed() int64 {
	v, n := binary.Varint(r.b)
	return consume(r, v, n)
}

func (r *reader) count() uint32 {
	v, n := binary.Uvarint(r.b)
	if v > 1<<32-1 {
		r.bad = true
	}
	return uint32(consume(r, v, n)) //nolint:gosec // G115: checked above
}

func consume[T any](r *reader, v T, n int) T {
	if n <= 0 {
		r.bad = true
		return *new(T)
	}
	r.b = r.b[n:]
	return v
}
