package publish_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"millrace/embedded/publish"
	"millrace/node/site"
)

var allCodings = []site.Coding{site.Brotli, site.Zstd, site.Gzip}

// decode decodes with another library than the one that encodes, as far as there is one.
func decode(t *testing.T, coding site.Coding, b []byte) []byte {
	t.Helper()
	var r io.Reader
	var err error
	switch coding {
	case site.Brotli:
		r = brotli.NewReader(bytes.NewReader(b))
	case site.Zstd:
		var d *zstd.Decoder
		d, err = zstd.NewReader(bytes.NewReader(b), zstd.WithDecoderMaxWindow(8<<20), zstd.WithDecoderConcurrency(1))
		if err == nil {
			defer d.Close()
		}
		r = d
	case site.Gzip:
		r, err = gzip.NewReader(bytes.NewReader(b))
	case site.Identity:
		t.Fatal("no coding")
	}
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("decode %s: %v", coding, err)
	}
	return out
}

// encoded returns text in a coding, by another library than the product's where there is one.
func encoded(t *testing.T, ending, text string) string {
	t.Helper()
	var b strings.Builder
	switch ending {
	case ".br":
		w := brotli.NewWriter(&b)
		_, _ = w.Write([]byte(text))
		_ = w.Close()
	case ".zst":
		w, err := zstd.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write([]byte(text))
		_ = w.Close()
	case ".gz":
		w := gzip.NewWriter(&b)
		_, _ = w.Write([]byte(text))
		_ = w.Close()
	}
	return b.String()
}

// An encoder gives the same bytes for the same content, whatever it encoded before. Else the same folder
// would be another deploy.
func TestEncodersAreDeterministic(t *testing.T) {
	for _, coding := range allCodings {
		used, err := publish.NewEncoder(coding, false)
		if err != nil {
			t.Fatal(err)
		}
		for seed, size := range []int{1_025, 3_000, 70_000, 200_000, 1_300_000, 5_000, 1_100} {
			text := []byte(prose(uint64(seed), size))
			fresh, err := publish.NewEncoder(coding, false)
			if err != nil {
				t.Fatal(err)
			}
			want, err := fresh.Encode(text, 128<<10)
			if err != nil {
				t.Fatal(err)
			}
			got, err := used.Encode(text, 128<<10)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s: %d bytes after other content: other bytes than a new encoder's", coding, size)
			}
			if !bytes.Equal(decode(t, coding, got), text) {
				t.Errorf("%s: %d bytes don't decode to what they were", coding, size)
			}
		}
	}
}

// What goes in comes out, by another library's decoder.
func FuzzEncoders(f *testing.F) {
	f.Add([]byte("hello hello hello hello"), uint16(5), false)
	f.Add([]byte(prose(1, 3_000)), uint16(1_000), true)
	f.Add([]byte(noise(1, 3_000)), uint16(7), false)
	encoders := map[site.Coding][2]*publish.Encoder{} // kept: those of zstd have tables of 34 MiB
	for _, coding := range allCodings {
		var both [2]*publish.Encoder
		for i := range both {
			var err error
			if both[i], err = publish.NewEncoder(coding, i == 1); err != nil {
				f.Fatal(err)
			}
		}
		encoders[coding] = both
	}
	f.Fuzz(func(t *testing.T, b []byte, piece uint16, best bool) {
		for _, coding := range allCodings {
			e := encoders[coding][0]
			if best {
				e = encoders[coding][1]
			}
			out, err := e.Encode(b, int(piece)+1)
			if err != nil {
				t.Fatal(err)
			}
			if got := decode(t, coding, out); !bytes.Equal(got, b) {
				t.Errorf("%s of %d bytes decodes to %d others", coding, len(b), len(got))
			}
		}
	})
}
