package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"sync"

	"millrace/node"
	"millrace/node/site"
)

// EncodeOptions are the options of Encode.
type EncodeOptions struct {
	// Live is the manifest of a deploy of the same site, or nil. Codings of files that it has too are taken over, so
	// that unchanged files cost nothing.
	Live *site.Manifest
	// Best makes the smallest brotli form, which takes thirteen times as long. Brotli forms aren't taken over then.
	Best bool
	// Progress is told how many of how many bytes were encoded, from one goroutine at a time; may be nil.
	Progress func(done, all int64)
}

// The rules by which codings are made and kept.
const (
	smallestEncoded = 1 << 10 // bytes of a file that is worth it
	keptPerMille    = 950     // what is kept is at most this share of the file
	maxZstdEncoders = 2       // each has tables of 34 MiB
	maxEncoders     = 8
)

// limitOf returns how large a coding may be to be kept, in bytes.
func limitOf(size int64) int64 { return size/1000*keptPerMille + size%1000*keptPerMille/1000 }

// encoding is one coding to make: of one digest, however many files have it.
type encoding struct {
	coding site.Coding
	file   *File
}

// Encode adds codings to the files of text types: brotli, zstd and gzip, each only if it is at least 5 % smaller. A
// file beside it with the ending .br, .zst or .gz is taken instead of making one. Errors are those of reading files,
// ErrChanged among them, and of temporary space.
func (f *Folder) Encode(ctx context.Context, opts EncodeOptions) error {
	r := &encodingRun{
		folder: f, opts: opts, result: map[node.Digest]map[site.Coding]node.Blob{}, made: map[node.Digest]source{},
	}
	known := knownCodings(opts.Live)
	for _, file := range f.Files {
		if worthEncoding(file) && r.result[file.Digest] == nil {
			r.add(file, known)
		}
	}
	if err := r.encodeAll(ctx); err != nil {
		return err
	}
	maps.Copy(f.sources, r.made)
	for _, file := range f.Files {
		file.Codings = nil
		if worthEncoding(file) && len(r.result[file.Digest]) > 0 {
			file.Codings = r.result[file.Digest]
		}
	}
	return nil
}

// encodingRun is one call of Encode.
type encodingRun struct {
	folder *Folder
	opts   EncodeOptions
	work   []encoding
	all    int64 // bytes of work

	mu     sync.Mutex // guards the rest while goroutines work
	result map[node.Digest]map[site.Coding]node.Blob
	made   map[node.Digest]source // where the bytes of new codings are
	done   int64
}

// add decides about the codings of a file: beside it, taken over, or to be made.
func (r *encodingRun) add(file *File, known map[node.Digest]map[site.Coding]node.Blob) {
	have := map[site.Coding]node.Blob{}
	maps.Copy(have, r.folder.codings[file.Digest])
	r.result[file.Digest] = have
	reused, ok := known[file.Digest]
	for _, coding := range codings {
		if _, beside := have[coding]; beside {
			continue
		}
		if ok && (!r.opts.Best || coding != site.Brotli) {
			if b, ok := reused[coding]; ok {
				have[coding] = b
			}
			continue
		}
		r.work = append(r.work, encoding{coding, file})
		r.all += file.Size
	}
}

func worthEncoding(file *File) bool { return file.Size > smallestEncoded && compressible(file.Path) }

// compressible reports whether a file of that path becomes smaller by a coding.
func compressible(path string) bool { return site.Compressible(site.TypeOf(path)) }

// knownCodings returns the codings of a manifest by the digest of the plain form. A file without any counts only if
// they would have been made.
func knownCodings(live *site.Manifest) map[node.Digest]map[site.Coding]node.Blob {
	if live == nil {
		return nil
	}
	known := make(map[node.Digest]map[site.Coding]node.Blob, len(live.Files))
	for path, file := range live.Files {
		if len(file.Codings) > 0 || (file.Size > smallestEncoded && compressible(path)) {
			known[file.Digest] = file.Codings
		}
	}
	return known
}

// encodeAll does the work with a few goroutines: those that make zstd, and those that make the others.
func (r *encodingRun) encodeAll(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	zstds, others := make(chan encoding), make(chan encoding) // closed by the goroutines that feed them
	var wg sync.WaitGroup
	start := func(n int, from chan encoding) {
		for range n {
			wg.Go(func() {
				if err := r.encodeFrom(ctx, from); err != nil {
					cancel(err)
				}
			})
		}
	}
	workers := min(max(runtime.GOMAXPROCS(0), 1), maxEncoders)
	start(min(max(workers/2, 1), maxZstdEncoders), zstds)
	start(max(workers-1, 1), others)
	wg.Go(func() { feed(ctx, r.work, zstds, true) })
	wg.Go(func() { feed(ctx, r.work, others, false) })
	wg.Wait()
	return context.Cause(ctx)
}

// keep notes that a coding was made, or with ok false that it isn't worth its place.
func (r *encodingRun) keep(e encoding, b node.Blob, places []int64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ok {
		r.result[e.file.Digest][e.coding] = b
		r.made[b.Digest] = source{blob: b, places: places}
	}
	if r.done += e.file.Size; r.opts.Progress != nil {
		r.opts.Progress(r.done, r.all)
	}
}

// feed sends the work that is zstd, or that isn't.
func feed(ctx context.Context, work []encoding, to chan<- encoding, isZstd bool) {
	defer close(to)
	for _, e := range work {
		if (e.coding == site.Zstd) != isZstd {
			continue
		}
		select {
		case to <- e:
		case <-ctx.Done():
			return
		}
	}
}

// encodeFrom makes codings until the channel is closed. Encoders are made when they are needed, and kept.
func (r *encodingRun) encodeFrom(ctx context.Context, from <-chan encoding) error {
	encoders := map[site.Coding]encoder{}
	to := &spooling{spool: &r.folder.spool, hash: newHasher()}
	buffer := make([]byte, readBuffer)
	for e := range from {
		enc := encoders[e.coding]
		if enc == nil {
			var err error
			if enc, err = newEncoder(e.coding, r.opts.Best); err != nil {
				return fmt.Errorf("make %s: %w", e.coding, err)
			}
			encoders[e.coding] = enc
		}
		to.reset(limitOf(e.file.Size))
		b, places, err := r.folder.encode(ctx, e, enc, to, buffer)
		if err != nil && !errors.Is(err, errNotSmaller) {
			return fmt.Errorf("make %s of %s: %w", e.coding, showName(e.file.Name), err)
		}
		r.keep(e, b, places, err == nil)
	}
	return nil
}

// encode makes one coding. The file is checked meanwhile, so that a coding is never of other bytes than the plain form.
func (f *Folder) encode(
	ctx context.Context, e encoding, enc encoder, to *spooling, buffer []byte,
) (b node.Blob, places []int64, err error) {
	content, size, err := f.Open(ctx, e.file.Digest)
	if err != nil {
		return b, nil, err
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	enc.begin(to, size)
	_, err = io.CopyBuffer(onlyWriter{enc}, onlyReader{content}, buffer)
	if err = errors.Join(err, enc.Close()); err != nil {
		return b, nil, err
	}
	return to.finish()
}

// onlyWriter and onlyReader hide the methods by which io.CopyBuffer would go without the buffer.
type (
	onlyWriter struct{ io.Writer }
	onlyReader struct{ io.Reader }
)
