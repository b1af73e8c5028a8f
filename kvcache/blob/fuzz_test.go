package blob_test

import (
	"bytes"
	"testing"

	"millrace/kvcache/blob"
	"millrace/node"
)

func FuzzAsk(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{1})
	b := blob.Of([]byte("x"))
	f.Add(blob.AppendAsk(nil, []node.Blob{b, b}))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := blob.ReadAsk(data)
		if err == nil && !bytes.Equal(got, data) {
			t.Errorf("%x is read and written as %x", data, got)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		"", "\x01\x01\x00\x00abc", "\x01\x02\x00\x07", "\x01\x03\x00\x00", "\x01\x03\x00\x00x",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, ok := blob.ReadAnswer(data)
		if ok && !bytes.Equal(got, data) {
			t.Errorf("%x is read and written as %x", data, got)
		}
	})
}
