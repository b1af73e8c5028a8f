package blob_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"millrace/embedded/natsserver"
	"millrace/embedded/natsserver/natsservertest"
	"millrace/kvcache/blob"
	"millrace/node"
	"millrace/node/nodetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connect opens a connection with the node's credential until the test ends.
func connect(tb testing.TB, s *natsserver.Server) *nats.Conn {
	tb.Helper()
	nc, _ := natsservertest.JetStream(tb, s)
	tb.Cleanup(nc.Close)
	return nc
}

// open runs a store on a server until the test ends.
func open(tb testing.TB, s *natsserver.Server, change ...func(*blob.Config)) *blob.Store {
	tb.Helper()
	return openOn(tb, connect(tb, s), change...)
}

func openOn(tb testing.TB, nc *nats.Conn, change ...func(*blob.Config)) *blob.Store {
	tb.Helper()
	cfg := blob.Config{
		Dir: tb.TempDir(), NATS: nc, Replicas: 1, StreamBytes: 2 << 30, Memory: 8 << 20, Log: nodetest.Discard(),
	}
	for _, f := range change {
		f(&cfg)
	}
	s, err := blob.New(cfg)
	if err == nil {
		err = s.Open(tb.Context())
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// content returns n bytes that differ for each seed.
func content(n int, seed byte) []byte {
	out := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed, byte(n), byte(n >> 8), byte(n >> 16)}).Read(out) // never fails
	return out
}

// put stores a content.
func put(tb testing.TB, s *blob.Store, data []byte) node.Blob {
	tb.Helper()
	b, err := s.PutBytes(patient(tb), data)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// bring brings blobs onto a node's disk.
func bring(tb testing.TB, s *blob.Store, blobs ...node.Blob) {
	tb.Helper()
	if err := s.Bring(patient(tb), blobs, nil); err != nil {
		tb.Fatal(err)
	}
}

// same fails the test if a store's content of a blob isn't want.
func same(tb testing.TB, s *blob.Store, b node.Blob, want []byte) {
	tb.Helper()
	got, err := s.ReadAll(patient(tb), b)
	if err != nil {
		tb.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		tb.Fatalf("%d bytes of %v are wrong", len(got), b.Digest)
	}
}

// patient is a context for what always ends unless it hangs.
func patient(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	tb.Cleanup(cancel)
	return ctx
}
