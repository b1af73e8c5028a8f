package blob_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"millrace/embedded/natsserver/natsservertest"
	"millrace/kvcache/blob"
	"millrace/node"
)

// folder returns n contents of total bytes together, with sizes as the files of a site have them: log-normal.
func folder(n, total int, seed byte) [][]byte {
	r := rand.New(rand.NewPCG(uint64(seed), 1))
	sizes := make([]float64, n)
	sum := 0.0
	for i := range sizes {
		sizes[i] = math.Exp(r.NormFloat64() * 1.5)
		sum += sizes[i]
	}
	out := make([][]byte, n)
	for i := range out {
		out[i] = make([]byte, int(sizes[i]/sum*float64(total))+8)
		for j := 0; j+8 <= len(out[i]); j += 8 {
			v := r.Uint64()
			for k := range 8 {
				out[i][j+k] = byte(v >> (8 * k))
			}
		}
	}
	return out
}

// upload stores contents one after the other, as they come in a request.
func upload(tb testing.TB, s *blob.Store, contents [][]byte) []node.Blob {
	tb.Helper()
	blobs := make([]node.Blob, len(contents))
	u := s.Upload()
	for i, data := range contents {
		blobs[i] = blob.Of(data)
		if err := u.Put(tb.Context(), blobs[i], bytes.NewReader(data)); err != nil {
			tb.Fatal(err)
		}
	}
	if err := u.Wait(); err != nil {
		tb.Fatal(err)
	}
	return blobs
}

func BenchmarkPut(b *testing.B) {
	for _, size := range []struct{ files, mb int }{{2000, 50}, {20_000, 90}, {1, 100}} {
		b.Run(fmt.Sprintf("%dfiles%dMB", size.files, size.mb), func(b *testing.B) {
			s := open(b, natsservertest.Start(b))
			b.SetBytes(int64(size.mb * 1_000_000))
			for i := range b.N {
				b.StopTimer()
				contents := folder(size.files, size.mb*1_000_000, byte(i))
				b.StartTimer()
				upload(b, s, contents)
			}
		})
	}
}

func BenchmarkBring(b *testing.B) {
	for _, size := range []struct{ files, mb int }{{2000, 50}, {20_000, 90}, {1, 100}} {
		b.Run(fmt.Sprintf("%dfiles%dMB", size.files, size.mb), func(b *testing.B) {
			server := natsservertest.Start(b)
			s := open(b, server)
			blobs := upload(b, s, folder(size.files, size.mb*1_000_000, 0))
			b.SetBytes(int64(size.mb * 1_000_000))
			b.ResetTimer()
			for range b.N {
				b.StopTimer()
				other := open(b, server) // not one that was swept: ext4 is slow where much was deleted just now
				b.StartTimer()
				if err := other.Bring(context.Background(), blobs, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// peak returns the largest resident size of this process since it was last called with reset, in MiB.
func peak(tb testing.TB, reset bool) float64 {
	tb.Helper()
	if reset {
		debug.FreeOSMemory()
		if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if size, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.Atoi(strings.Fields(size)[0])
			if err != nil {
				tb.Fatal(err)
			}
			return float64(kib) / 1024
		}
	}
	return 0
}

// A blob of BLOB_MB (100) MB is put by one store and brought by another, with the server in the same process.
func BenchmarkLarge(b *testing.B) {
	size := int64(100_000_000)
	if mb, err := strconv.Atoi(os.Getenv("BLOB_MB")); err == nil {
		size = int64(mb) * 1_000_000
	}
	file, err := os.Create(filepath.Join(b.TempDir(), "large"))
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	name, sum := node.Blob{Size: size}, sha256.New()
	for n := range name.Parts() {
		part := content(int(name.PartSize(n)), byte(n))
		name.Chunks = append(name.Chunks, node.DigestOf(part))
		if _, err := io.MultiWriter(file, sum).Write(part); err != nil {
			b.Fatal(err)
		}
	}
	sum.Sum(name.Digest[:0])
	server := natsservertest.Start(b)
	peak(b, true)
	b.SetBytes(2 * size)
	b.ResetTimer()
	for range b.N {
		if err := open(b, server).Put(b.Context(), name, io.NewSectionReader(file, 0, size)); err != nil {
			b.Fatal(err)
		}
		if err := open(b, server).Bring(b.Context(), []node.Blob{name}, nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(peak(b, false), "MiB-peak")
}
