package blob_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"millrace/embedded/natsserver"
	"millrace/embedded/natsserver/natsservertest"
	"millrace/kvcache/blob"
	"millrace/node"
	"millrace/node/nodetest"
)

// harm changes a blob's file on the disk.
func harm(tb testing.TB, dir string, b node.Blob, how func([]byte) []byte) {
	tb.Helper()
	name := b.Digest.String()
	path := filepath.Join(dir, "b", name[:2], name)
	data, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, how(data), 0o600)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

var harms = map[string]func([]byte) []byte{
	"a flipped byte": func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
	"a short file":   func(b []byte) []byte { return b[:len(b)-1] },
	"an empty file":  func([]byte) []byte { return nil },
	"a longer file":  func(b []byte) []byte { return append(b, 0) },
}

// A file that is wrong is never loaded; the right one is fetched.
func TestLoadChecks(t *testing.T) {
	server := natsservertest.Start(t)
	for what, how := range harms {
		dir := t.TempDir()
		s := open(t, server, func(c *blob.Config) { c.Dir = dir })
		data := content(5000, 1)
		b := put(t, s, data)
		harm(t, dir, b, how)
		got, err := s.File(b).Load(patient(t))
		if err != nil || !bytes.Equal(got, data) || s.Stats().BadDigests != 1 {
			t.Errorf("%s: %d bytes, %v, %+v", what, len(got), err, s.Stats())
		}
	}
}

// After an unclean end every file is read before it is used. After a clean one only its size is looked at.
func TestUncleanEnd(t *testing.T) {
	server := natsservertest.Start(t)
	for what, how := range harms {
		for _, clean := range []bool{false, true} {
			dir := t.TempDir()
			first := open(t, server, func(c *blob.Config) { c.Dir = dir })
			data := content(int(node.BlobChunk)+5000, 1)
			b, other := put(t, first, data), put(t, first, content(100, 2))
			if err := first.Close(); err != nil {
				t.Fatal(err)
			}
			harm(t, dir, b, how)
			if !clean {
				if err := os.Remove(filepath.Join(dir, "clean")); err != nil {
					t.Fatal(err)
				}
			}
			s := open(t, server, func(c *blob.Config) { c.Dir = dir })
			f := s.File(b)
			if _, err := f.Acquire(); what != "a flipped byte" || !clean {
				if !errors.Is(err, blob.ErrNotHere) {
					t.Errorf("%s, clean %v: a wrong file can be opened: %v", what, clean, err)
				}
			} else if err == nil {
				f.Release()
				f.Bad(errors.New("the reader found it"))
			}
			nodetest.Eventually(t, what+": it is fetched anew", func() bool {
				got, err := read(t, s, b, 0, -1)
				return err == nil && bytes.Equal(got, data)
			})
			same(t, s, other, content(100, 2))
		}
	}
}

func TestLostDisk(t *testing.T) {
	server := natsservertest.Start(t)
	dir := t.TempDir()
	s := open(t, server, func(c *blob.Config) { c.Dir = dir })
	data := content(3<<20, 1)
	b := put(t, s, data)
	f := s.File(b)
	if err := os.RemoveAll(filepath.Join(dir, "b", b.Digest.String()[:2])); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Acquire(); !errors.Is(err, blob.ErrNotHere) || f.Here() && s.Stats().BadDigests == 0 {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, server, func(c *blob.Config) { c.Dir = dir })
	if again.Has(b) {
		t.Error("a lost file is there")
	}
	same(t, again, b, data)
}

func TestFullDisk(t *testing.T) {
	server := natsservertest.Start(t)
	a, b := open(t, server), open(t, server)
	var left atomic.Int64
	b.SetDisk(func(n int) error {
		if left.Add(-int64(n)) < 0 {
			return &os.PathError{Op: "write", Path: "a file", Err: syscall.ENOSPC}
		}
		return nil
	})
	small, large := content(1000, 1), content(6<<20, 2)
	blobs := []node.Blob{put(t, a, small), put(t, a, large)}
	for _, space := range []int64{0, 1000, 2 << 20} {
		left.Store(space)
		if err := b.Bring(patient(t), blobs, nil); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("bring with %d bytes left: %v", space, err)
		}
		left.Store(space / 4)
		if err := b.Put(patient(t), blob.Of(content(7<<20, 3)), bytes.NewReader(content(7<<20, 3))); !errors.Is(err,
			syscall.ENOSPC) {
			t.Errorf("put with %d bytes left: %v", space/4, err)
		}
		left.Store(space / 4)
		if _, err := read(t, b, blobs[1], 0, -1); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("read with %d bytes left: %v", space/4, err)
		}
		nodetest.Eventually(t, "no partial file is left", func() bool { return b.Temporary() == 0 })
		if b.Has(blobs[1]) {
			t.Error("a blob is whole on a full disk")
		}
	}
	left.Store(1 << 30)
	bring(t, b, blobs...)
	same(t, b, blobs[1], large)
}

// Wrong bytes in the stream are found, and the right ones come from the disk of another node.
func TestWrongChunkInStream(t *testing.T) {
	server := natsservertest.Start(t)
	a, b := open(t, server), open(t, server)
	small, large := content(1000, 1), content(3<<20, 2)
	js := jetStream(t, server)
	for _, data := range [][]byte{small, large} {
		name := put(t, a, data)
		if _, err := js.Publish(t.Context(), "blob."+name.Digest.String()+".0", content(1000, 9)); err != nil {
			t.Fatal(err)
		}
		bring(t, b, name)
		same(t, b, name, data)
	}
	if s := b.Stats(); s.BadDigests < 2 || s.FetchedNear == 0 {
		t.Errorf("%+v", s)
	}
	name := put(t, b, content(70, 3))
	a.Sweep(none)
	b.Sweep(none)
	if _, err := js.Publish(t.Context(), "blob."+name.Digest.String()+".0", content(70, 9)); err != nil {
		t.Fatal(err)
	}
	if err := b.Bring(patient(t), []node.Blob{name}, nil); !errors.Is(err, blob.ErrDigest) || b.Has(name) {
		t.Error(err)
	}
}

// jetStream returns a JetStream for what the tests do to the stream themselves.
func jetStream(tb testing.TB, s *natsserver.Server) jetstream.JetStream {
	tb.Helper()
	nc, js := natsservertest.JetStream(tb, s)
	tb.Cleanup(nc.Close)
	return js
}

func TestFullStream(t *testing.T) {
	s := open(t, natsservertest.Start(t), func(c *blob.Config) { c.StreamBytes = 12 << 20 })
	for i := range byte(3) {
		put(t, s, content(3<<20, i))
	}
	_, err := s.PutBytes(patient(t), content(5<<20, 9))
	if !errors.Is(err, blob.ErrFull) {
		t.Fatal(err)
	}
	missing, err := s.Missing(t.Context(), []node.Blob{blob.Of(content(5<<20, 9))})
	if err != nil || len(missing) != 1 {
		t.Error(missing, err)
	}
	if _, err := s.Collect(patient(t), none, 0); err != nil {
		t.Fatal(err)
	}
	put(t, s, content(5<<20, 9))
}
