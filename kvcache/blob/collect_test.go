package blob_test

import (
	"bytes"
	"context"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"millrace/embedded/natsserver/natsservertest"
	"millrace/kvcache/blob"
	"millrace/node"
)

func none(node.Digest) bool { return false }

// has returns which of the blobs the mesh has, without claiming them.
func has(tb testing.TB, s *blob.Store, blobs ...node.Blob) (n int) {
	tb.Helper()
	for _, b := range blobs {
		missing, err := s.Lacks(tb.Context(), b)
		if err != nil {
			tb.Fatal(err)
		}
		if !missing {
			n++
		}
	}
	return n
}

func TestCollect(t *testing.T) {
	s := open(t, natsservertest.Start(t))
	kept, gone, large := put(t, s, content(1000, 1)), put(t, s, content(2000, 2)), put(t, s, content(3<<20, 3))
	keep := func(d node.Digest) bool { return d == kept.Digest }
	if n, err := s.Collect(patient(t), keep, time.Hour); err != nil || n != 0 || has(t, s, kept, gone, large) != 3 {
		t.Fatalf("young ones: %d bytes, %v, %d are left", n, err, has(t, s, kept, gone, large))
	}
	n, err := s.Collect(patient(t), keep, 0)
	if err != nil || n < 3<<20 || has(t, s, kept) != 1 || has(t, s, gone, large) != 0 {
		t.Fatalf("%d bytes, %v, %d of the unwanted are left", n, err, has(t, s, gone, large))
	}
	if missing, err := s.Missing(t.Context(), []node.Blob{kept, gone, large}); err != nil || len(missing) != 2 {
		t.Fatal(missing, err)
	}
	if s.Stats().Files != 3 {
		t.Error("a collection of the stream's blobs removed a file")
	}
	if files, bytes := s.Sweep(keep); files != 2 || bytes != 2000+3<<20 {
		t.Errorf("swept %d files with %d bytes", files, bytes)
	}
	same(t, s, kept, content(1000, 1))
}

// What Missing says is there stays for grace, even if it is old and nobody wants it.
func TestMissingKeeps(t *testing.T) {
	s := open(t, natsservertest.Start(t))
	blobs := []node.Blob{put(t, s, content(1000, 1)), put(t, s, content(2<<20, 2)), put(t, s, content(10, 3))}
	old := time.Now()
	if missing, err := s.Missing(t.Context(), blobs[:2]); err != nil || len(missing) != 0 {
		t.Fatal(missing, err)
	}
	if _, err := s.Collect(patient(t), none, time.Since(old)); err != nil {
		t.Fatal(err)
	}
	if claimed, other := has(t, s, blobs[:2]...), has(t, s, blobs[2]); claimed != 2 || other != 0 {
		t.Errorf("%d of 2 claimed blobs, and %d of 1 unclaimed, are left", claimed, other)
	}
}

// A chunk that was sent by an upload that broke off isn't relied on while it may be collected.
func TestResumeBesideCollect(t *testing.T) {
	server := natsservertest.Start(t)
	a, b := open(t, server), open(t, server)
	data := content(4<<20, 1)
	name := put(t, a, data)
	for range 8 {
		var both sync.WaitGroup
		both.Go(func() {
			if _, err := b.Collect(patient(t), none, 50*time.Millisecond); err != nil {
				t.Error(err)
			}
		})
		both.Go(func() {
			if err := a.Put(patient(t), name, bytes.NewReader(data)); err != nil {
				t.Error(err)
			}
		})
		both.Wait()
		c := open(t, server)
		if has(t, c, name) == 1 {
			bring(t, c, name) // whole, or not there at all
		}
	}
}

func TestDeadCollection(t *testing.T) {
	s := open(t, natsservertest.Start(t))
	name := put(t, s, content(10, 1))
	s.SetStale(100 * time.Millisecond)
	s.BeginCollection(t)
	if missing, err := s.Missing(patient(t), []node.Blob{name}); err != nil || len(missing) != 0 {
		t.Fatal(missing, err)
	}
	s.BeginCollection(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	s.SetStale(time.Hour)
	if _, err := s.Missing(ctx, []node.Blob{name}); err == nil {
		t.Error("Missing answers while somebody purges")
	}
}

// publishers are two that publish sets of blobs, one after the other. A set counts once it is live.
type publishers struct {
	contents [][]byte
	grace    time.Duration

	mu   sync.Mutex // guards live
	live [2]map[node.Digest]bool
}

// wanted returns what the live sets name.
func (p *publishers) wanted() map[node.Digest]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := maps.Clone(p.live[0])
	if out == nil {
		out = map[node.Digest]bool{}
	}
	maps.Copy(out, p.live[1])
	return out
}

// publish publishes one set and checks that all of it is there, unless that took longer than it may.
func (p *publishers) publish(ctx context.Context, t *testing.T, s *blob.Store, me int, r *rand.Rand) {
	t.Helper()
	set := map[node.Digest]bool{}
	byDigest := map[node.Digest][]byte{}
	var blobs []node.Blob
	for range 12 {
		data := p.contents[r.IntN(len(p.contents))]
		b := blob.Of(data)
		byDigest[b.Digest], set[b.Digest] = data, true
		blobs = append(blobs, b)
	}
	began := time.Now()
	missing, err := s.Missing(ctx, blobs)
	for _, b := range missing {
		if err == nil {
			err = s.Put(ctx, b, bytes.NewReader(byDigest[b.Digest]))
		}
	}
	p.mu.Lock()
	p.live[me] = set
	p.mu.Unlock()
	if err != nil {
		t.Error(err)
	}
	if time.Since(began) > p.grace/2 {
		return // the machine is too slow for the promise
	}
	if n := has(t, s, blobs...); n != len(blobs) {
		t.Errorf("%d of %d blobs of a live set are there", n, len(blobs))
	}
}

// While two publish, everything that no set names is collected. Whatever a set names must be there.
func TestPublishersAndCollect(t *testing.T) {
	server := natsservertest.Start(t)
	p := publishers{contents: make([][]byte, 1000), grace: time.Second}
	for i := range p.contents {
		size := 100 + i
		if i%50 == 0 {
			size = int(node.BlobChunk) + i + 1
		}
		p.contents[i] = content(size, byte(i))
	}
	ctx, done := context.WithCancel(patient(t))
	defer done()
	var running sync.WaitGroup
	for me := range p.live {
		s, r := open(t, server), rand.New(rand.NewPCG(uint64(me), 2))
		running.Go(func() {
			for ctx.Err() == nil {
				p.publish(context.WithoutCancel(ctx), t, s, me, r)
			}
		})
	}
	s := open(t, server)
	for collected := 0; collected < 5 && !t.Failed(); {
		wanted := p.wanted()
		bytes, err := s.Collect(ctx, func(d node.Digest) bool { return wanted[d] }, p.grace)
		if err != nil {
			t.Error(err)
		}
		if bytes > 0 {
			collected++
		}
	}
	done()
	running.Wait()
}
