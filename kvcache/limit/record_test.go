package limit_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"millrace/kvcache/limit"
)

// FuzzRecord decodes arbitrary bytes, and encodes a record made of them. Decoding never panics, and returns what was
// encoded.
func FuzzRecord(f *testing.F) {
	for _, kind := range limit.Kinds() {
		full := limit.NewRecord(kind, [2]int64{-1 << 63, 1<<63 - 1}, [limit.Spans]uint32{1<<32 - 1, 0, 1, 127, 128})
		f.Add(kind, full.Encode(kind))
		empty := limit.Record{}
		f.Add(kind, empty.Encode(kind))
	}
	// more than 64 bits
	f.Add(byte(1), []byte{1, 1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02, 0, 0, 0})
	// a count of more than 32
	f.Add(byte(1), []byte{1, 1, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x10, 0})
	f.Add(byte(0), []byte{1, 0})
	f.Fuzz(func(t *testing.T, kind byte, data []byte) {
		if r, err := limit.DecodeRecord(data, kind); err == nil {
			again, err := limit.DecodeRecord(r.Encode(kind), kind)
			if err != nil || again != r {
				t.Errorf("kind %d: %x was read as %+v, written and read as %+v, %v", kind, data, r, again, err)
			}
		}
		made := recordOf(kind, data)
		if again, err := limit.DecodeRecord(made.Encode(kind), kind); err != nil || again != made {
			t.Errorf("kind %d: %+v was written and read as %+v, %v", kind, made, again, err)
		}
	})
}

// recordOf fills a record's fields from data.
func recordOf(kind byte, data []byte) limit.Record {
	var room [16 + 4*limit.Spans]byte
	copy(room[:], data)
	var counts [limit.Spans]uint32
	for i := range counts {
		counts[i] = binary.LittleEndian.Uint32(room[16+4*i:])
	}
	times := [2]int64{int64(binary.LittleEndian.Uint64(room[:])), int64(binary.LittleEndian.Uint64(room[8:]))}
	return limit.NewRecord(kind, times, counts)
}

// A value that isn't a record of the kind is refused: a node must not take a record of another version, or half of one,
// for an empty one.
func TestForeignRecordIsRefused(t *testing.T) {
	for _, kind := range limit.Kinds() {
		r := limit.NewRecord(kind, [2]int64{1_700_000_000_000_000_000, 1_700_000_060_000_000_000},
			[limit.Spans]uint32{7, 2})
		b := r.Encode(kind)
		if got, err := limit.DecodeRecord(b, kind); err != nil || got != r {
			t.Errorf("kind %d: %+v was read as %+v, %v", kind, r, got, err)
		}
		bad := map[string][]byte{
			"nothing": nil, "a version alone": b[:1], "cut off": b[:len(b)-1], "longer": append(bytes.Clone(b), 0),
			"another version": append([]byte{b[0] + 1}, b[1:]...),
			"another kind":    append([]byte{b[0], b[1] + 1}, b[2:]...),
		}
		for name, b := range bad {
			if got, err := limit.DecodeRecord(b, kind); err == nil || got != (limit.Record{}) {
				t.Errorf("kind %d, %s: read as %+v, %v", kind, name, got, err)
			}
		}
	}
}

// The header field of a write is decoded as it was encoded, and a malformed one is ignored as a whole.
func FuzzMark(f *testing.F) {
	f.Add(uint64(1), int64(0), "")
	f.Add(uint64(1<<64-1), int64(-1<<63), "1 2 3")
	f.Add(uint64(36), int64(1<<62), "zz -zz")
	f.Fuzz(func(t *testing.T, mark uint64, wrote int64, text string) {
		if m, w := limit.ReadWriteID(limit.FormatWriteID(mark, wrote)); m != mark || w != wrote {
			t.Errorf("%d and %d became %d and %d", mark, wrote, m, w)
		}
		m, w := limit.ReadWriteID(text)
		if m2, w2 := limit.ReadWriteID(limit.FormatWriteID(m, w)); m2 != m || w2 != w {
			t.Errorf("%q was read as %d and %d, which is %d and %d", text, m, w, m2, w2)
		}
	})
}
