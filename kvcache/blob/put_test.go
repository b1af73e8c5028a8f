package blob_test

import (
	"bytes"
	"errors"
	"testing"

	"millrace/embedded/natsserver/natsservertest"
	"millrace/kvcache/blob"
	"millrace/node"
)

func TestPutAndBring(t *testing.T) {
	s := natsservertest.Start(t)
	a, b := open(t, s), open(t, s)
	chunk := int(node.BlobChunk)
	for _, size := range []int{0, 1, 1000, chunk - 1, chunk, chunk + 1, 5*chunk + 7} {
		data := content(size, 1)
		name := put(t, a, data)
		if name.Parts() > 1 != (len(name.Chunks) > 0) || !a.Has(name) || b.Has(name) {
			t.Fatalf("%d bytes: %+v", size, name)
		}
		missing, err := b.Missing(t.Context(), []node.Blob{name})
		if err != nil || len(missing) != 0 {
			t.Fatalf("%d bytes: missing %v, %v", size, missing, err)
		}
		if f := b.File(name); f.Here() || f.Bytes() != nil {
			t.Fatalf("%d bytes are there before they came", size)
		}
		bring(t, b, name)
		same(t, b, name, data)
		f := b.File(name)
		if !f.Here() || f != b.File(name) {
			t.Fatalf("%d bytes came, and aren't here", size)
		}
		loaded, err := f.Load(t.Context())
		if err != nil || !bytes.Equal(loaded, data) || !bytes.Equal(f.Bytes(), data) || f.Bytes() == nil {
			t.Fatalf("%d bytes: loaded %d, %v", size, len(loaded), err)
		}
		file, err := f.Acquire()
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, size)
		if _, err := file.ReadAt(got, 0); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d bytes: %v", size, err)
		}
		f.Release()
	}
}

func TestPutRefuses(t *testing.T) {
	a := open(t, natsservertest.Start(t))
	chunk := int(node.BlobChunk)
	for _, size := range []int{10, chunk, 3*chunk + 1} {
		data := content(size, 2)
		name := blob.Of(data)
		wrong := bytes.Clone(data)
		wrong[size-1] ^= 1
		for what, content := range map[string][]byte{
			"a wrong byte": wrong, "a byte less": data[:size-1], "nothing": nil,
			"a byte more": append(bytes.Clone(data), 0),
		} {
			if err := a.Put(patient(t), name, bytes.NewReader(content)); !errors.Is(err, blob.ErrDigest) {
				t.Errorf("%d bytes, %s: %v", size, what, err)
			}
		}
		if missing, err := a.Missing(t.Context(), []node.Blob{name}); err != nil || len(missing) != 1 || a.Has(name) {
			t.Errorf("%d bytes are there after they were refused: %v, %v", size, missing, err)
		}
	}
	if err := a.Put(patient(t), node.Blob{Size: node.BlobChunk + 1}, nil); !errors.Is(err, node.ErrBlob) {
		t.Error(err)
	}
	if s := a.Stats(); s.Files != 0 || s.DiskBytes != 0 {
		t.Errorf("%+v", s)
	}
}

func TestMissing(t *testing.T) {
	s := natsservertest.Start(t)
	a := open(t, s)
	var all []node.Blob
	for i := range 100 {
		data := content(100+i, 3)
		all = append(all, blob.Of(data))
		if i%2 == 0 {
			put(t, a, data)
		}
	}
	for _, n := range []int{1, 2, 7, 100} {
		missing, err := a.Missing(t.Context(), append(all[:n:n], all[:n]...))
		if err != nil || len(missing) != n/2 {
			t.Errorf("of %d: %d are missing, %v", n, len(missing), err)
		}
		for _, b := range missing {
			if (b.Size-100)%2 == 0 {
				t.Errorf("%v isn't missing", b)
			}
		}
	}
	if err := a.Bring(patient(t), all, nil); !errors.Is(err, blob.ErrMissing) {
		t.Error(err)
	}
}
