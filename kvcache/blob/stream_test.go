package blob_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"millrace/embedded/natsserver"
	"millrace/embedded/natsserver/natsservertest"
	"millrace/kvcache/blob"
	"millrace/node"
	"millrace/node/nodetest"
)

// requests are the numbers of the chunks that stores ask of the stream, in order.
type requests struct {
	mu  sync.Mutex // guards all
	all []int
}

// listen notes which chunks are asked for.
func listen(tb testing.TB, server *natsserver.Server, s *blob.Store) *requests {
	tb.Helper()
	nc, out := connect(tb, server), &requests{}
	sub, err := nc.Subscribe("$JS.API.DIRECT.GET."+s.StreamName(), func(msg *nats.Msg) {
		var ask struct {
			Subjects []string `json:"multi_last"`
		}
		if err := json.Unmarshal(msg.Data, &ask); err != nil {
			tb.Error(err)
		}
		out.mu.Lock()
		defer out.mu.Unlock()
		for _, subject := range ask.Subjects {
			n, err := strconv.Atoi(subject[strings.LastIndexByte(subject, '.')+1:])
			if err != nil {
				tb.Error(err)
			}
			out.all = append(out.all, n)
		}
	})
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = sub.Unsubscribe() })
	return out
}

func (r *requests) seen() []int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]int(nil), r.all...)
}

// read reads a part of a blob as it comes.
func read(tb testing.TB, s *blob.Store, b node.Blob, offset, length int64) ([]byte, error) {
	tb.Helper()
	r, err := s.File(b).Stream(patient(tb), offset, length)
	if err != nil {
		return nil, err
	}
	got, err := io.ReadAll(r)
	return got, errors.Join(err, r.Close())
}

func TestStream(t *testing.T) {
	server := natsservertest.Start(t)
	a := open(t, server)
	chunk := int(node.BlobChunk)
	for _, size := range []int{0, 1, chunk, chunk + 1, 9*chunk + 5} {
		data := content(size, 1)
		name := put(t, a, data)
		for _, part := range [][2]int{{0, size}, {0, -1}, {size / 2, size / 4}, {size - size/8, size / 8}, {size, 0}} {
			b := open(t, server)
			want := data[part[0]:]
			if part[1] >= 0 {
				want = want[:part[1]]
			}
			got, err := read(t, b, name, int64(part[0]), int64(part[1]))
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%v of %d bytes: %d, %v", part, size, len(got), err)
			}
		}
		for _, part := range [][2]int64{{-1, 2}, {0, int64(size) + 1}, {int64(size) + 1, -1}} {
			if _, err := read(t, a, name, part[0], part[1]); err == nil {
				t.Errorf("%v of %d bytes can be read", part, size)
			}
		}
	}
	if _, err := read(t, a, blob.Of(content(5, 9)), 0, 5); !errors.Is(err, blob.ErrMissing) {
		t.Error(err)
	}
}

// Two that read a blob at once share one fetch, and it stays when they have read it.
func TestStreamJoins(t *testing.T) {
	server := natsservertest.Start(t)
	a, b := open(t, server), open(t, server)
	data := content(40*int(node.BlobChunk), 1)
	name := put(t, a, data)
	asked := listen(t, server, b)
	first, err := b.File(name).Stream(patient(t), 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	for _, from := range []int{0, 7, len(data) / 2, len(data) - 3} {
		reading.Go(func() {
			got, err := read(t, b, name, int64(from), -1)
			if err != nil || !bytes.Equal(got, data[from:]) {
				t.Errorf("from %d: %d bytes, %v", from, len(got), err)
			}
		})
	}
	reading.Wait()
	got, err := io.ReadAll(first)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	nodetest.Eventually(t, "the blob is here", b.File(name).Here)
	if err := errors.Join(first.Close(), first.Close()); err != nil {
		t.Error(err)
	}
	counts := map[int]int{}
	for _, n := range asked.seen() {
		counts[n]++
	}
	for n := range name.Parts() {
		if counts[n] != 1 {
			t.Errorf("chunk %d was asked for %d times", n, counts[n])
		}
	}
	if s := b.Stats(); s.Fetched != int64(len(data)) || s.Files != 1 {
		t.Errorf("%+v", s)
	}
}

// A range is there before the rest is fetched, and nothing more is fetched once its reader has left.
func TestStreamRangeFirst(t *testing.T) {
	server := natsservertest.Start(t)
	a, b := open(t, server), open(t, server)
	chunk := int(node.BlobChunk)
	data := content(100*chunk, 1)
	name := put(t, a, data)
	asked := listen(t, server, b)
	r, err := b.File(name).Stream(patient(t), int64(70*chunk+3), int64(3*chunk))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, data[70*chunk+3:73*chunk+3]) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	// Several requests go out at once, and may arrive in any order: that of the range, and two of eight chunks each.
	seen := asked.seen()
	for n := 70; n <= 73; n++ {
		if at := slices.Index(seen, n); at < 0 || at >= 4+2*8 {
			t.Errorf("chunk %d was asked for at place %d of %v", n, at, seen)
		}
	}
	nodetest.Eventually(t, "the temporary file is gone", func() bool { return b.Temporary() == 0 })
	if n := len(asked.seen()); n == 100 || b.Has(name) {
		t.Errorf("%d chunks were fetched for a range of 4, whole: %v", n, b.Has(name))
	}
	same(t, b, name, data)
}

// A reader that leaves doesn't end the fetch of one that stays.
func TestStreamFirstReaderLeaves(t *testing.T) {
	server := natsservertest.Start(t)
	a, b := open(t, server), open(t, server)
	data := content(30*int(node.BlobChunk), 1)
	name := put(t, a, data)
	r, err := b.File(name).Stream(patient(t), 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	brought := make(chan error)
	total := int64(0)
	go func() {
		brought <- b.Bring(patient(t), []node.Blob{name}, func(n int64) { total += n })
	}()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); err == nil {
		t.Error("a closed reader reads")
	}
	if err := <-brought; err != nil || total != name.Size {
		t.Fatalf("%d bytes came, %v", total, err)
	}
	same(t, b, name, data)
}

// A list of chunks that isn't the blob's gives nothing, and does no harm to those with the right one.
func TestLyingChunks(t *testing.T) {
	server := natsservertest.Start(t)
	a, b := open(t, server), open(t, server)
	data := content(3*int(node.BlobChunk), 1)
	name := put(t, a, data)
	lie := node.Blob{Digest: name.Digest, Size: name.Size, Chunks: append([]node.Digest(nil), name.Chunks...)}
	lie.Chunks[1] = node.DigestOf([]byte("another"))
	if _, err := read(t, b, lie, 0, -1); !errors.Is(err, blob.ErrMissing) {
		t.Error(err)
	}
	if b.File(lie) == b.File(name) {
		t.Error("both have one File")
	}
	if got, err := read(t, b, name, 0, -1); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	data = content(3*int(node.BlobChunk), 2)
	other := blob.Of(data)
	other.Digest = node.DigestOf([]byte("another"))
	if err := b.Put(patient(t), other, bytes.NewReader(data)); !errors.Is(err, blob.ErrDigest) {
		t.Error(err)
	}
}
