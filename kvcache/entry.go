package kvcache

import (
	"encoding/binary"
	"errors"
	"time"
)

// Entry is what the cache stores under a key.
type Entry struct {
	Key     []byte
	Value   []byte
	Expires time.Time // to the millisecond
	Scope   Scope
}

// Scope says which purges reach an entry: those newer than Epoch of its URL, its host, a prefix of its URL, one of its
// tags, or everything. No purge reaches the zero value.
type Scope struct {
	Epoch Epoch
	URL   uint64 // Hash of the URL; 0 if no purge reaches the entry
	Host  uint64
	Tags  []uint64
}

// Epoch is a position in the log of purges.
type Epoch struct {
	Incarnation uint64 // of the log, which may be deleted and created again
	Sequence    uint64 // the last purge that was applied
}

// An encoded entry is a header of fixed size, the tags, the key and the value. Memory and bucket have the same bytes.
const (
	entryVersion = 2
	entryFixed   = 56
	maxTags      = 255
)

var errEntry = errors.New("entry is malformed")

// Append encodes the entry, in the form that memory, bucket and other nodes use.
func (e *Entry) Append(b []byte) []byte {
	le := binary.LittleEndian
	tags := e.Scope.Tags[:min(len(e.Scope.Tags), maxTags)]
	b = append(b, entryVersion, byte(len(tags)), 0, 0) //nolint:gosec // G115: at most maxTags
	b = le.AppendUint32(b, uint32(len(e.Key)))         //nolint:gosec // G115: keys are short
	b = le.AppendUint64(b, uint64(len(e.Value)))       // what follows is read back the same way
	b = le.AppendUint64(b, uint64(e.Expires.UnixMilli()))
	b = le.AppendUint64(b, e.Scope.Epoch.Incarnation)
	b = le.AppendUint64(b, e.Scope.Epoch.Sequence)
	b = le.AppendUint64(b, e.Scope.URL)
	b = le.AppendUint64(b, e.Scope.Host)
	for _, t := range tags {
		b = le.AppendUint64(b, t)
	}
	return append(append(b, e.Key...), e.Value...)
}

// encodedSize returns the size of the encoded entry at the start of b.
func encodedSize(b []byte) int {
	le := binary.LittleEndian
	return entryFixed + 8*int(b[1]) + int(le.Uint32(b[4:])) + int(le.Uint64(b[8:])) //nolint:gosec // G115: it fits in b
}

// encodedKey returns the key of the encoded entry at the start of b.
func encodedKey(b []byte) []byte {
	from := entryFixed + 8*int(b[1])
	return b[from : from+int(binary.LittleEndian.Uint32(b[4:]))]
}

// encodedExpires returns when the encoded entry expires, in Unix milliseconds.
func encodedExpires(b []byte) int64 {
	return int64(binary.LittleEndian.Uint64(b[16:])) //nolint:gosec // G115: written from an int64
}

func encodedHost(b []byte) uint64 { return binary.LittleEndian.Uint64(b[48:]) }

// Decode decodes an entry. Key and value alias b. It reuses the capacity of Scope.Tags.
func (e *Entry) Decode(b []byte) error {
	if len(b) < entryFixed || b[0] != entryVersion {
		return errEntry
	}
	le := binary.LittleEndian
	tags, key, value := int(b[1]), int(le.Uint32(b[4:])), le.Uint64(b[8:])
	if value > uint64(len(b)) || key > len(b) || entryFixed+8*tags+key+int(value) > len(b) { //nolint:gosec // G115: checked
		return errEntry
	}
	e.Expires = time.UnixMilli(encodedExpires(b))
	e.Scope.Epoch = Epoch{le.Uint64(b[24:]), le.Uint64(b[32:])}
	e.Scope.URL, e.Scope.Host = le.Uint64(b[40:]), le.Uint64(b[48:])
	e.Scope.Tags = e.Scope.Tags[:0]
	b = b[entryFixed:]
	for ; tags > 0; tags-- {
		e.Scope.Tags = append(e.Scope.Tags, le.Uint64(b))
		b = b[8:]
	}
	e.Key, e.Value = b[:key:key], b[key:key+int(value):key+int(value)] //nolint:gosec // G115: checked
	return nil
}
