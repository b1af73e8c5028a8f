package httpcache

import (
	"encoding/binary"
	"errors"
	"strings"
	"time"

	"millrace/node"
)

// Kind is the kind of a Record.
type Kind uint8

// The kinds of records.
const (
	KindResponse Kind = iota + 1 // a response with its body, or with the number of its chunks
	KindVary                     // responses of this URI depend on request fields: Text has sets of them, IDs variants
	KindPass                     // responses of this URI aren't stored: requests must not wait for one another
	KindSearch                   // responses of this path don't depend on the whole query: Text is the rule
	KindGone                     // the entry must be fetched again, whatever other tiers have
)

// Record is the decoded value of one cache key. Byte slices of a decoded Record alias its encoded form.
type Record struct {
	Kind   Kind
	Stored Stored
	Head   []byte   // field lines, each with CRLF, without Content-Length
	Body   []byte   // the whole body, or the stored spans one after the other; empty if it is in chunks
	Length int64    // of the whole body
	Chunks uint32   // number of chunks with the body; 0 if it is in Body
	Nonce  uint64   // identifies the chunks
	Spans  []Span   // the spans in Body, with Partial
	Text   string   // of KindVary, KindPass and KindSearch; of a Partial without Spans the only Range that it answers
	IDs    []uint64 // of KindVary
}

const (
	recordVersion = 1
	recordFixed   = 80
	maxMillis     = MaxAge * 1000 // of an age or a lifetime
)

var errRecord = errors.New("record is malformed")

// Append encodes the record.
func (r *Record) Append(b []byte) []byte {
	le := binary.LittleEndian
	b = append(b, recordVersion, byte(r.Kind))
	b = le.AppendUint16(b, uint16(r.Stored.Flags))
	b = le.AppendUint16(b, uint16(r.Stored.Status)) //nolint:gosec // G115: a status has three digits
	b = le.AppendUint16(b, uint16(len(r.Spans)))    //nolint:gosec // G115: at most MaxParts
	b = appendTimes(b, &r.Stored)
	b = le.AppendUint64(b, uint64(r.Length)) //nolint:gosec // G115: never negative
	b = le.AppendUint64(b, r.Nonce)
	b = le.AppendUint32(b, r.Chunks)
	b = le.AppendUint32(b, uint32(len(r.Head))) //nolint:gosec // G115: heads are small
	b = le.AppendUint32(b, uint32(len(r.Text))) //nolint:gosec // G115: see above
	b = le.AppendUint32(b, uint32(len(r.IDs)))  //nolint:gosec // G115: see above
	for _, s := range r.Spans {
		b = le.AppendUint64(le.AppendUint64(b, uint64(s.First)), uint64(s.Last)) //nolint:gosec // G115: never negative
	}
	for _, id := range r.IDs {
		b = le.AppendUint64(b, id)
	}
	return append(append(append(b, r.Text...), r.Head...), r.Body...)
}

// appendTimes encodes two times and four durations, in milliseconds or seconds.
func appendTimes(b []byte, s *Stored) []byte {
	le := binary.LittleEndian
	b = le.AppendUint64(b, uint64(s.Requested.UnixMilli()))
	b = le.AppendUint64(b, uint64(s.Received.UnixMilli()))
	for _, d := range [...]time.Duration{s.InitialAge, s.Lifetime} {
		b = le.AppendUint64(b, uint64(min(max(d.Milliseconds(), 0), maxMillis)))
	}
	b = le.AppendUint32(b, seconds32(s.StaleWhileRevalidate))
	return le.AppendUint32(b, seconds32(s.StaleIfError))
}

func seconds32(d time.Duration) uint32 {
	return uint32(min(max(d/time.Second, 0), MaxAge))
}

// Decode decodes a record. It aliases b.
func (r *Record) Decode(b []byte) error {
	if len(b) < recordFixed || b[0] != recordVersion {
		return errRecord
	}
	le := binary.LittleEndian
	r.Kind = Kind(b[1])
	s := &r.Stored
	s.Flags, s.Status = Flags(le.Uint16(b[2:])), int(le.Uint16(b[4:]))
	spans := int(le.Uint16(b[6:]))
	s.Requested, s.Received = moment(b[8:]), moment(b[16:])
	age, lifetime := le.Uint64(b[24:]), le.Uint64(b[32:])
	if age > maxMillis || lifetime > maxMillis || le.Uint32(b[40:]) > MaxAge || le.Uint32(b[44:]) > MaxAge {
		return errRecord
	}
	s.InitialAge, s.Lifetime = time.Duration(age)*time.Millisecond, time.Duration(lifetime)*time.Millisecond
	s.StaleWhileRevalidate = time.Duration(le.Uint32(b[40:])) * time.Second
	s.StaleIfError = time.Duration(le.Uint32(b[44:])) * time.Second
	r.Length = int64(le.Uint64(b[48:])) //nolint:gosec // G115: checked below
	r.Nonce, r.Chunks = le.Uint64(b[56:]), le.Uint32(b[64:])
	head, text, ids := int(le.Uint32(b[68:])), int(le.Uint32(b[72:])), int(le.Uint32(b[76:]))
	b = b[recordFixed:]
	if spans > MaxParts || r.Length < 0 || head > len(b) || text > len(b) || ids > len(b) ||
		head+text+8*ids+16*spans > len(b) {
		return errRecord
	}
	r.Spans, r.IDs, r.Text = nil, nil, ""
	for ; spans > 0; spans-- {
		r.Spans = append(r.Spans, Span{int64(le.Uint64(b)), int64(le.Uint64(b[8:]))}) //nolint:gosec // G115: checked by Parts
		b = b[16:]
	}
	for ; ids > 0; ids-- {
		r.IDs = append(r.IDs, le.Uint64(b))
		b = b[8:]
	}
	if text > 0 {
		r.Text = string(b[:text])
	}
	r.Head, r.Body = b[text:text+head:text+head], b[text+head:]
	return r.check()
}

// check rejects what no writer of this release would have written.
func (r *Record) check() error {
	at, kept := int64(-1), int64(0)
	for _, s := range r.Spans {
		if s.First <= at || s.Last < s.First || s.Last >= r.Length {
			return errRecord
		}
		at, kept = s.Last, kept+s.Len()
	}
	switch {
	case r.Kind < KindResponse || r.Kind > KindGone:
		return errRecord
	case r.Kind != KindResponse && len(r.Spans) > 0:
		return errRecord
	case r.Kind != KindResponse:
		return nil
	case len(r.Spans) > 0 && kept != int64(len(r.Body)):
		return errRecord
	case len(r.Spans) == 0 && r.Chunks == 0 && r.Length != int64(len(r.Body)):
		return errRecord
	}
	return nil
}

func moment(b []byte) time.Time {
	return time.UnixMilli(int64(binary.LittleEndian.Uint64(b))) //nolint:gosec // G115: written from an int64
}

// Parts returns the spans of a partial record.
func (r *Record) Parts() Parts {
	p := Parts{Length: r.Length, Spans: r.Spans}
	rest := r.Body
	for _, s := range r.Spans {
		p.Bytes = append(p.Bytes, rest[:s.Len():s.Len()])
		rest = rest[s.Len():]
	}
	return p
}

// Date returns when the origin made the response, or when it arrived if it doesn't say.
func (r *Record) Date() time.Time {
	return date(&Response{Header: r.Header(), Received: r.Stored.Received})
}

// AppendHead encodes fields as in Record.Head.
func AppendHead(b []byte, h node.Header) []byte {
	for _, f := range h {
		b = append(append(append(append(b, f.Name...), ": "...), f.Value...), "\r\n"...)
	}
	return b
}

// Header decodes the fields of Head. Its strings are copies.
func (r *Record) Header() node.Header {
	text := string(r.Head)
	h := make(node.Header, 0, strings.Count(text, "\n"))
	for line := range strings.SplitSeq(text, "\r\n") {
		if name, value, ok := strings.Cut(line, ": "); ok {
			h = append(h, node.Field{Name: name, Value: value})
		}
	}
	return h
}
