package limit

import (
	"encoding/binary"
	"errors"
)

// record is what the store keeps about a key. Which fields count depends on the rule's kind.
type record struct {
	start, end int64  // fixed windows: in Unix nanoseconds
	granted    uint32 // permits that left the record in this window
	active     uint32 // nodes that have leased some in it; one that has lost its entry counts again

	newest int64             // sliding windows: the span that spans[0] is of
	spans  [spanSlots]uint32 // permits that were leased in it and in those before it

	last int64 // buckets: the last position on the time line that was leased, in Unix nanoseconds
}

// A sliding window of W is counted in spans of W/spansPerWindow. Any W of real time touches one span more than that,
// and a clock that is off by up to a span one more.
const (
	spansPerWindow = 30
	spanSlots      = spansPerWindow + 2
)

const recordVersion = 1

var errRecord = errors.New("the record can't be read")

// encode writes the record as the store keeps it: version, kind, and the kind's fields as varints.
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
	case concurrent: // see holders
	}
	return b
}

// decodeRecord reads what encode has written.
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

// reader takes varints off the front of b.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) signed() int64 {
	v, n := binary.Varint(r.b)
	return took(r, v, n)
}

func (r *reader) count() uint32 {
	v, n := binary.Uvarint(r.b)
	if v > 1<<32-1 {
		r.bad = true
	}
	return uint32(took(r, v, n)) //nolint:gosec // G115: checked above
}

func took[T any](r *reader, v T, n int) T {
	if n <= 0 {
		r.bad = true
		return *new(T)
	}
	r.b = r.b[n:]
	return v
}
