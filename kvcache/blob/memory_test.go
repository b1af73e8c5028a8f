package blob_test

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"millrace/embedded/natsserver/natsservertest"
	"millrace/kvcache/blob"
	"millrace/node"
	"millrace/node/nodetest"
)

func TestBytesAllocatesNothing(t *testing.T) {
	s := open(t, natsservertest.Start(t))
	f := s.File(put(t, s, content(1000, 1)))
	if _, err := f.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(1000, func() {
		if len(f.Bytes()) != 1000 {
			t.Fatal("it isn't in memory")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Contents take no more memory than they may. Those that are asked for stay.
func TestMemoryLimit(t *testing.T) {
	const limit = 100_000
	s := open(t, natsservertest.Start(t), func(c *blob.Config) { c.Memory = limit })
	hot := s.File(put(t, s, content(10_000, 1)))
	var files []*blob.File
	for i := range byte(50) {
		files = append(files, s.File(put(t, s, content(5000+int(i), 2))))
	}
	stays := 0
	for _, f := range append([]*blob.File{hot}, files...) {
		if _, err := f.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		if hot.Bytes() != nil {
			stays++
		}
		if n := s.Stats().MemoryBytes; n > limit {
			t.Fatalf("%d bytes are in memory", n)
		}
	}
	if stays != 51 {
		t.Errorf("what was asked for all the time was in memory %d of 51 times", stays)
	}
	if files[0].Bytes() != nil || s.Stats().MemoryBytes < limit/2 {
		t.Errorf("nothing was evicted, or too much: %+v", s.Stats())
	}
	large := s.File(put(t, s, content(limit, 3)))
	if got, err := large.Load(t.Context()); err != nil || len(got) != limit || large.Bytes() != nil {
		t.Errorf("a content above the limit: %d bytes, kept %v, %v", len(got), large.Bytes() != nil, err)
	}
}

// At most 1,024 files stay open. One that is in use stays usable, whatever happens to the blob.
func TestDescriptors(t *testing.T) {
	s := open(t, natsservertest.Start(t))
	blobs := upload(t, s, folder(1200, 100_000, 1))
	data := content(5000, 1)
	used := s.File(put(t, s, data))
	file, err := used.Acquire()
	if err != nil {
		t.Fatal(err)
	}
	var users sync.WaitGroup
	for part := range 4 {
		users.Go(func() {
			for _, b := range blobs[part*300 : (part+1)*300] {
				f := s.File(b)
				if _, err := f.Acquire(); err != nil {
					t.Error(err)
					return
				}
				f.Release()
			}
		})
	}
	users.Wait()
	if n := s.Stats().Open; n > 1024 || n < 1000 {
		t.Errorf("%d files are open", n)
	}
	s.Sweep(none)
	if n := s.Stats().Open; n != 1 {
		t.Errorf("%d files are open after all were removed", n)
	}
	bring(t, s, used.Blob())
	again, err := used.Acquire()
	if err != nil || again == file {
		t.Fatal("the removed file is opened", err)
	}
	for _, f := range []*os.File{file, again} {
		got := make([]byte, len(data))
		if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, data) {
			t.Error(err)
		}
	}
	used.Release()
	used.Release()
	if n := s.Stats().Open; n != 1 {
		t.Errorf("%d files are open", n)
	}
}

// Files that nobody holds cost nothing.
func TestFilesAreForgotten(t *testing.T) {
	s := open(t, natsservertest.Start(t))
	held := s.File(blob.Of([]byte("held")))
	for i := range 1000 {
		s.File(blob.Of([]byte(strconv.Itoa(i))))
	}
	nodetest.Eventually(t, "Files are forgotten", func() bool {
		runtime.GC()
		return s.Known() == 1
	})
	if s.File(held.Blob()) != held {
		t.Error("the File that is held was forgotten")
	}
	broken := s.File(node.Blob{Size: -1})
	if _, err := broken.Load(t.Context()); err == nil || broken.Here() {
		t.Error("what is no blob is loaded")
	}
}
