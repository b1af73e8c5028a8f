package blob_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"millrace/embedded/natsserver/natsservertest"
	"millrace/kvcache/blob"
	"millrace/node"
)

func replicated(c *blob.Config) { c.Replicas = 3 }

func TestThreeNodes(t *testing.T) {
	var stores []*blob.Store
	for _, s := range natsservertest.StartThree(t) {
		stores = append(stores, open(t, s, replicated))
	}
	contents := folder(300, 4<<20, 1)
	contents = append(contents, content(20<<20, 2), nil)
	blobs := upload(t, stores[0], contents)
	for _, s := range stores[1:] {
		if missing, err := s.Missing(patient(t), blobs); err != nil || len(missing) != 0 {
			t.Fatal(len(missing), err)
		}
		bring(t, s, blobs...)
	}
	for i, b := range blobs {
		for _, s := range stores {
			same(t, s, b, contents[i])
		}
	}
	if bytes, err := stores[2].Collect(patient(t), none, 0); err != nil || bytes < 20<<20 {
		t.Errorf("collected %d bytes, %v", bytes, err)
	}
	if missing, err := stores[1].Missing(patient(t), blobs); err != nil || len(missing) != len(blobs) {
		t.Errorf("%d of %d are missing, %v", len(missing), len(blobs), err)
	}
}

// What a broken upload has sent isn't sent again.
func TestResume(t *testing.T) {
	server := natsservertest.Start(t)
	s := open(t, server)
	data := content(20*int(node.BlobChunk)+1, 1)
	name := put(t, s, data)
	js := jetStream(t, server)
	stream, err := js.Stream(t.Context(), s.StreamName())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"0", "7"} {
		msg, err := stream.GetLastMsgForSubject(t.Context(), "blob."+name.Digest.String()+"."+n)
		if err == nil {
			err = stream.DeleteMsg(t.Context(), msg.Sequence)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	before, err := stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if missing, err := s.Missing(t.Context(), []node.Blob{name}); err != nil || len(missing) != 1 {
		t.Fatal("a blob without its first chunk is whole", err)
	}
	if err := s.Put(patient(t), name, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	after, err := stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := after.State.LastSeq - before.State.LastSeq; n != 2 || after.State.Msgs != uint64(name.Parts()) {
		t.Errorf("%d messages were sent, %d are there", n, after.State.Msgs)
	}
	other := open(t, server)
	bring(t, other, name)
	same(t, other, name, data)
}

// A far node takes chunks from the disks of others, and from the stream what they lack.
func TestFar(t *testing.T) {
	server := natsservertest.Start(t)
	near := open(t, server)
	small, large, lost := content(1000, 1), content(9<<20, 2), content(2000, 3)
	blobs := []node.Blob{put(t, near, small), put(t, near, large), put(t, near, lost)}
	near.Sweep(func(d node.Digest) bool { return d != blobs[2].Digest })
	var stats blob.Stats
	for range 5 { // a node that doesn't answer in time, on a busy machine, is passed over, and that is right too
		far := open(t, server, func(c *blob.Config) { c.Far = true })
		bring(t, far, blobs...)
		for i, want := range [][]byte{small, large, lost} {
			same(t, far, blobs[i], want)
		}
		if stats = far.Stats(); stats.FetchErrors == 0 {
			break
		}
		if err := far.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if stats.FetchedNear != 1000+9<<20 || stats.Fetched != 3000+9<<20 || stats.FetchErrors != 0 {
		t.Errorf("%+v", stats)
	}
	// The one that asked answers again.
	third := open(t, server, func(c *blob.Config) { c.Far = true })
	near.Sweep(none)
	if err := near.Close(); err != nil {
		t.Fatal(err)
	}
	bring(t, third, blobs...)
	if stats := third.Stats(); stats.FetchedNear != stats.Fetched && stats.FetchErrors == 0 {
		t.Errorf("%+v", stats)
	}
}

// What isn't a request for chunks gets no answer, and does no harm.
func TestHostileRequest(t *testing.T) {
	server := natsservertest.Start(t)
	s := open(t, server)
	put(t, s, content(10, 1))
	nc := connect(t, server)
	for _, ask := range [][]byte{nil, {0}, {2}, {1, 0}, bytes.Repeat([]byte{1}, 37*600)} {
		ctx, cancel := context.WithTimeout(t.Context(), 20e6)
		if msg, err := nc.RequestWithContext(ctx, "blob.get", ask); err == nil && len(ask) != 1 {
			t.Errorf("%d bytes are answered with %v", len(ask), msg.Data)
		}
		cancel()
	}
}

func TestClosed(t *testing.T) {
	server := natsservertest.Start(t)
	s := open(t, server)
	name := put(t, s, content(3<<20, 1))
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	_, missing := s.Missing(t.Context(), nil)
	_, collect := s.Collect(t.Context(), none, 0)
	_, acquire := s.File(name).Acquire()
	for what, err := range map[string]error{
		"put": s.Put(t.Context(), name, nil), "bring": s.Bring(t.Context(), nil, nil), "missing": missing,
		"collect": collect, "acquire": acquire,
	} {
		if !errors.Is(err, blob.ErrClosed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := blob.New(blob.Config{}); err == nil {
		t.Error("a store needs no configuration")
	}
}

// Without NATS, what is on the disk is served.
func TestCutOff(t *testing.T) {
	server := natsservertest.Start(t)
	dir := t.TempDir()
	first := open(t, server, func(c *blob.Config) { c.Dir = dir })
	data := content(3<<20, 1)
	name := put(t, first, data)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	nc := connect(t, server)
	second := openOn(t, nc, func(c *blob.Config) { c.Dir = dir })
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	same(t, second, name, data)
	bring(t, second, name)
	if got, err := read(t, second, name, 100, 100); err != nil || !bytes.Equal(got, data[100:200]) {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300e6)
	defer cancel()
	if err := second.Bring(ctx, []node.Blob{blob.Of(content(10, 9))}, nil); !errors.Is(err, blob.ErrAway) &&
		!errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
