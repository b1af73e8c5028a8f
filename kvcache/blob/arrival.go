package blob

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"millrace/node"
)

// Limits of the blobs that come chunk by chunk.
const (
	maxArrivals = 64 // at once; beyond that Stream fails with ErrBusy
	fetchers    = 3  // requests at once for one blob
	urgentParts = 4  // chunks in a request that a reader waits for
	restParts   = 8  // chunks in other requests
)

// arrivals are the blobs that are coming.
type arrivals struct {
	mu sync.Mutex // guards of
	of map[*File]*arrival
}

// arrival is a blob that comes chunk by chunk into a temporary file, while any number of readers read what is there. It
// ends when it is whole, and when nobody reads it any more.
type arrival struct {
	s    *Store
	file *File
	w    *writer
	read *os.File // the same file, for the readers; closed by the last one

	ctx  context.Context //nolint:containedctx // ends with the last reader
	stop context.CancelCauseFunc

	mu      sync.Mutex // guards all below
	parts   []partState
	left    int // chunks that aren't there
	next    int // where the search for a chunk that nobody waits for begins
	readers map[*reader]bool
	over    bool // nobody may join
	err     error
	changed chan struct{} // closed and replaced when something above changes
}

type partState byte

const (
	partAway partState = iota
	partAsked
	partHere
)

// reader waits for the chunks from at up to end, which change under arrival.mu.
type reader struct{ at, end int }

var errAbandoned = errors.New("nobody reads the blob any more")

// join adds a reader to the arrival of a blob, and begins one if there is none.
func (s *Store) join(f *File, r *reader) (*arrival, error) {
	s.arrivals.mu.Lock()
	defer s.arrivals.mu.Unlock()
	if a := s.arrivals.of[f]; a != nil && a.add(r) {
		return a, nil
	}
	if len(s.arrivals.of) >= maxArrivals {
		return nil, ErrBusy
	}
	w, err := s.dir.create()
	if err != nil {
		return nil, fmt.Errorf("write blob %v: %w", f.blob.Digest, err)
	}
	read, err := os.Open(w.Name())
	if err != nil {
		w.drop()
		return nil, fmt.Errorf("open blob %v: %w", f.blob.Digest, err)
	}
	a := &arrival{
		s: s, file: f, w: w, read: read, parts: make([]partState, f.blob.Parts()), left: f.blob.Parts(),
		readers: map[*reader]bool{r: true}, changed: make(chan struct{}),
	}
	a.ctx, a.stop = context.WithCancelCause(s.ctx)
	if !s.spawn(a.run) {
		w.drop()
		_ = read.Close()
		return nil, ErrClosed
	}
	if s.arrivals.of == nil {
		s.arrivals.of = make(map[*File]*arrival)
	}
	s.arrivals.of[f] = a
	return a, nil
}

// add adds a reader, unless the arrival is over or failed.
func (a *arrival) add(r *reader) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over {
		return false
	}
	a.readers[r] = true
	return true
}

// leave removes a reader. When it was the last one, the arrival ends.
func (a *arrival) leave(r *reader) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.readers, r)
	if len(a.readers) > 0 {
		return
	}
	if !a.over {
		a.over = true
		a.stop(errAbandoned)
	}
	_ = a.read.Close()
}

// run fetches all chunks, and makes a blob of the file when it is whole.
func (a *arrival) run() {
	defer a.stop(nil)
	var fetching sync.WaitGroup
	for range fetchers {
		fetching.Go(a.fetch)
	}
	fetching.Wait()
	err := context.Cause(a.ctx)
	if err == nil {
		err = checkWhole(a.w.File, &a.file.blob)
	}
	if err == nil {
		err = a.s.keep(a.w, a.file.blob.Digest, a.file.blob.Size)
	} else {
		a.w.drop()
	}
	a.s.arrivals.mu.Lock()
	if a.s.arrivals.of[a.file] == a {
		delete(a.s.arrivals.of, a.file)
	}
	a.s.arrivals.mu.Unlock()
	a.change(func() { a.over, a.err = true, err })
}

// change makes a change that readers wait for.
func (a *arrival) change(how func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	how()
	close(a.changed)
	a.changed = make(chan struct{})
}

// fetch fetches chunks until all are asked for, or one can't be had.
func (a *arrival) fetch() {
	for {
		select {
		case a.s.asks <- struct{}{}:
		case <-a.ctx.Done():
			return
		}
		batch := a.pick()
		if len(batch) == 0 {
			<-a.s.asks
			return
		}
		err := a.s.fetchBatch(a.ctx, batch, a.got)
		<-a.s.asks
		if err != nil {
			a.stop(err)
			return
		}
	}
}

// got writes a chunk, which was checked.
func (a *arrival) got(p part, data []byte) error {
	if _, err := a.w.WriteAt(data, int64(p.n)*node.BlobChunk); err != nil {
		return fmt.Errorf("write blob %v: %w", p.blob.Digest, err)
	}
	a.change(func() {
		a.parts[p.n] = partHere
		a.left--
	})
	return nil
}

// pick chooses the chunks to ask for next: those that readers wait for or come to soon, else the first ones.
func (a *arrival) pick() []part {
	a.mu.Lock()
	defer a.mu.Unlock()
	for r := range a.readers { // in random order, so that each gets its turn
		if batch := a.takeLocked(r.at, min(r.end, r.at+fetchers*urgentParts), urgentParts); len(batch) > 0 {
			return batch
		}
	}
	for r := range a.readers {
		if batch := a.takeLocked(r.at, r.end, restParts); len(batch) > 0 {
			return batch
		}
	}
	for a.next < len(a.parts) && a.parts[a.next] != partAway {
		a.next++
	}
	return a.takeLocked(a.next, len(a.parts), restParts)
}

// takeLocked takes up to n chunks from from up to end that nobody has asked for.
func (a *arrival) takeLocked(from, end, n int) (batch []part) {
	for i := from; i < end && len(batch) < n; i++ {
		if a.parts[i] == partAway {
			a.parts[i] = partAsked
			batch = append(batch, part{blob: &a.file.blob, n: i})
		}
	}
	return batch
}

// await waits until chunk n is there, which the reader is at from now on.
func (a *arrival) await(ctx context.Context, r *reader, n int) error {
	for {
		a.mu.Lock()
		r.at = n
		here, over, err, changed := a.parts[n] == partHere, a.over, a.err, a.changed
		a.mu.Unlock()
		switch {
		case here && err == nil:
			return nil
		case over && err != nil:
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// awaitWhole waits until the blob is whole on the disk, and calls progress with the bytes that came.
func (a *arrival) awaitWhole(ctx context.Context, progress func(int64)) error {
	told := 0
	for {
		a.mu.Lock()
		came, over, err, changed := len(a.parts)-a.left, a.over, a.err, a.changed
		a.mu.Unlock()
		if came > told {
			progress(sizeOf(&a.file.blob, came) - sizeOf(&a.file.blob, told))
			told = came
		}
		if over {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// sizeOf returns the size of n chunks of a blob, in bytes, as if they were the first.
func sizeOf(b *node.Blob, n int) int64 { return min(int64(n)*node.BlobChunk, b.Size) }
