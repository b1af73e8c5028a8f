package httpcache_test

import (
	"bytes"
	"reflect"
	"slices"
	"testing"
	"time"

	"millrace/kvcache/httpcache"
)

// samples returns a record of each kind, and of each way to keep a body.
func samples() map[string]httpcache.Record {
	stored := httpcache.Stored{
		Status: 200, Requested: time.UnixMilli(now.UnixMilli() - 5), Received: time.UnixMilli(now.UnixMilli()),
		InitialAge: 1500 * time.Millisecond,
		Lifetime:   time.Minute, StaleWhileRevalidate: time.Second, StaleIfError: time.Hour,
		Flags: httpcache.Immutable | httpcache.HasValidator,
	}
	fields := httpcache.AppendHead(nil,
		head("Date: "+at(0), "X-Empty: ", "X-Colon: a: b", "Set-Cookie: a", "Set-Cookie: b"))
	return map[string]httpcache.Record{
		"a response": {Kind: httpcache.KindResponse, Stored: stored, Head: fields, Body: []byte("body"), Length: 4},
		"no body":    {Kind: httpcache.KindResponse, Stored: stored, Head: fields, Body: []byte{}},
		"in chunks": {
			Kind: httpcache.KindResponse, Stored: stored, Head: fields, Body: []byte{}, Length: 1 << 40,
			Chunks: 9, Nonce: 1 << 63,
		},
		"parts": {
			Kind: httpcache.KindResponse, Stored: stored, Head: fields, Body: []byte("abcxyz"), Length: 10,
			Spans: []httpcache.Span{{First: 0, Last: 2}, {First: 7, Last: 9}},
		},
		"variants": {
			Kind:   httpcache.KindVary,
			Stored: httpcache.Stored{Requested: stored.Requested, Received: stored.Received}, Head: []byte{},
			Body: []byte{}, Text: "a,b", IDs: []uint64{1, 1 << 63},
		},
		"passed": {
			Kind:   httpcache.KindPass,
			Stored: httpcache.Stored{Requested: stored.Requested, Received: stored.Received}, Head: []byte{},
			Body: []byte{},
		},
		"gone": {
			Kind:   httpcache.KindGone,
			Stored: httpcache.Stored{Requested: stored.Requested, Received: stored.Received}, Head: []byte{},
			Body: []byte{},
		},
		"search rule": {
			Kind:   httpcache.KindSearch,
			Stored: httpcache.Stored{Requested: stored.Requested, Received: stored.Received}, Head: []byte{},
			Body: []byte{}, Text: "key-order",
		},
	}
}

// Records are decoded as they were encoded (RFC 9111 §3 says what belongs to a stored response).
func TestRecordIsDecodedAsEncoded(t *testing.T) {
	for name, want := range samples() {
		t.Run(name, func(t *testing.T) {
			got := httpcache.Record{Text: "left over", IDs: []uint64{7}, Spans: []httpcache.Span{{First: 1, Last: 2}}}
			encoded := want.Append([]byte("before"))
			if err := got.Decode(encoded[len("before"):]); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%+v, want %+v", got, want)
			}
			if h := got.Header(); !bytes.Equal(httpcache.AppendHead(nil, h), want.Head) {
				t.Errorf("fields: %q", h)
			}
			for n := range len(encoded) - len("before") { // a torn write
				var torn httpcache.Record
				if err := torn.Decode(encoded[len("before") : len("before")+n]); err == nil && n < 80 {
					t.Errorf("%d bytes are read", n)
				}
			}
		})
	}
	parts := samples()["parts"]
	if b, ok := parts.Parts().Find(httpcache.Span{First: 8, Last: 9}); !ok || string(b) != "yz" {
		t.Errorf("%q %v", b, ok)
	}
}

// A malformed record is rejected: it could make a response fresh for ever, or show bytes of another one.
func TestMalformedRecordIsRejected(t *testing.T) {
	for _, row := range []struct {
		name   string
		sample string
		change func([]byte)
	}{
		{"another version", "a response", func(b []byte) { b[0] = 2 }},
		{"no kind", "a response", func(b []byte) { b[1] = 0 }},
		{"an unknown kind", "a response", func(b []byte) { b[1] = 6 }},
		{"a negative age", "a response", func(b []byte) { b[31] = 0xff }},
		{"a lifetime without end", "a response", func(b []byte) { b[38] = 1 }},
		{"a window without end", "a response", func(b []byte) { b[43] = 0xff }},
		{"a negative length", "a response", func(b []byte) { b[55] = 0x80 }},
		{"a length that isn't the body's", "a response", func(b []byte) { b[48]++ }},
		{"a head longer than all", "a response", func(b []byte) { b[71] = 0xff }},
		{"more ids than fit", "variants", func(b []byte) { b[76]++ }},
		{"spans out of order", "parts", func(b []byte) { copy(b[80:], b[96:112]) }},
		{"a span behind the end", "parts", func(b []byte) { b[104]++ }},
		{"parts of what isn't a response", "parts", func(b []byte) { b[1] = byte(httpcache.KindVary) }},
	} {
		sample := samples()[row.sample]
		b := sample.Append(nil)
		row.change(b)
		var r httpcache.Record
		if r.Decode(b) == nil {
			t.Errorf("%s is read: %+v", row.name, r)
		}
	}
}

// Both functions run for each request that is answered from memory.
func TestJudgeAndDecodeAllocateNothing(t *testing.T) {
	sample := samples()["a response"]
	encoded := sample.Append(nil)
	var r httpcache.Record
	use := httpcache.UseNever
	if n := testing.AllocsPerRun(100, func() {
		if r.Decode(encoded) == nil {
			use = r.Stored.Judge(nil, now, false)
		}
	}); n != 0 || use != httpcache.UseFresh {
		t.Errorf("%v allocations, %v", n, use)
	}
}

func BenchmarkJudge(b *testing.B) {
	stored := samples()["a response"].Stored
	control := httpcache.ParseControl(head("Cache-Control: max-age=30"), true)
	b.ReportAllocs()
	for b.Loop() {
		if stored.Judge(&control, now, false) != httpcache.UseFresh {
			b.Fatal("not fresh")
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	sample := samples()["a response"]
	encoded := sample.Append(nil)
	var r httpcache.Record
	b.ReportAllocs()
	for b.Loop() {
		if err := r.Decode(encoded); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzRecord(f *testing.F) {
	for _, sample := range samples() {
		f.Add(sample.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := slices.Clone(b)
		var r, again httpcache.Record
		if r.Decode(b) != nil {
			return
		}
		r.Header()
		kept := 0
		for _, part := range r.Parts().Bytes {
			kept += len(part)
		}
		if len(r.Spans) > 0 && kept != len(r.Body) {
			t.Errorf("%d bytes in parts, %d in the body", kept, len(r.Body))
		}
		encoded := r.Append(nil)
		if !bytes.Equal(encoded, b) || !bytes.Equal(b, before) {
			t.Errorf("% x\nis written as\n% x", b, encoded)
		}
		if err := again.Decode(encoded); err != nil || !reflect.DeepEqual(r, again) {
			t.Errorf("%+v\nis read back as\n%+v: %v", r, again, err)
		}
		if age := r.Stored.Age(now); age < 0 || r.Stored.Keep() > httpcache.MaxKeep {
			t.Errorf("age %v, keep %v", age, r.Stored.Keep())
		}
	})
}
