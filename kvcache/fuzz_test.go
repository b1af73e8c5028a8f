package kvcache_test

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"millrace/kvcache"
)

// FuzzEntry decodes arbitrary bytes. Decode doesn't panic, and Append encodes its result to the same bytes.
func FuzzEntry(f *testing.F) {
	e := kvcache.Entry{
		Key: []byte("Ghttp://a.example/"), Value: []byte("value"), Expires: time.UnixMilli(1_700_000_000_000),
		Scope: kvcache.Scope{Epoch: kvcache.Epoch{Incarnation: 7, Sequence: 8}, URL: 1, Host: 2, Tags: []uint64{3, 4}},
	}
	f.Add(e.Append(nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		var got kvcache.Entry
		if got.Decode(b) != nil {
			return
		}
		again := got.Append(nil)
		var second kvcache.Entry
		if err := second.Decode(again); err != nil {
			t.Fatalf("what Append wrote can't be read: %v", err)
		}
		if !bytes.Equal(got.Key, second.Key) || !bytes.Equal(got.Value, second.Value) ||
			!got.Expires.Equal(second.Expires) || !reflect.DeepEqual(got.Scope, second.Scope) {
			t.Fatalf("read %+v, and again %+v", got, second)
		}
	})
}
