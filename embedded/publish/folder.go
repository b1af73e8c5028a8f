package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"millrace/node"
	"millrace/node/site"
)

// Folder is a folder that was scanned. Close it after use. Its methods aren't safe for concurrent use, but for Open.
type Folder struct {
	// Files are what is published, by name. Encode adds their codings.
	Files []*File
	// Problems are in the order in which a person should read them: the worst first.
	Problems []Problem

	headers   []site.HeaderRule
	redirects []site.Redirect
	limit     int64 // bytes of one file
	root      *os.Root
	spool     spool
	sources   map[node.Digest]source
	codings   map[node.Digest]map[site.Coding]node.Blob // files that are codings of others, by digest of the plain form
}

// File is one file of a folder.
type File struct {
	site.File

	// Path is where it is served, in the form of node.CanonicalPath: /a%20b/index.html.
	Path string
	// Name is its path in the folder, with slashes: a b/index.html.
	Name string

	resolved string // Name without links
	at       stamp  // its state when it was read
}

// source says where the bytes of a blob are: in a file of the folder, or else in the spool.
type source struct {
	file   *File
	blob   node.Blob
	places []int64
}

// Close removes temporary files. It is idempotent.
func (f *Folder) Close() error { return errors.Join(f.root.Close(), f.spool.close()) }

// Err returns a *FolderError if the folder can't be published, else nil.
func (f *Folder) Err() error {
	for _, p := range f.Problems {
		if p.Severity == Bad {
			return &FolderError{f.Problems}
		}
	}
	return nil
}

// Bytes returns the size of all files without their codings, in bytes.
func (f *Folder) Bytes() int64 {
	var n int64
	for _, file := range f.Files {
		n += file.Size
	}
	return n
}

// Manifest returns the manifest of the folder with the codings that Encode made or took over.
func (f *Folder) Manifest() *site.Manifest {
	m := &site.Manifest{
		Version: site.Version, Files: make(map[string]site.File, len(f.Files)), Headers: f.headers,
		Redirects: f.redirects,
	}
	for _, file := range f.Files {
		m.Files[file.Path] = file.File
	}
	return m
}

// ErrChanged means that a file isn't any more what it was when the folder was scanned.
var ErrChanged = errors.New("a file has changed since it was read: publish again")

// has reports whether the folder has the bytes of a blob.
func (f *Folder) has(d node.Digest) bool {
	_, ok := f.sources[d]
	return ok
}

// Open returns the bytes of a blob of the manifest. Read returns ErrChanged instead of io.EOF if they aren't those that
// the digest names, also if there are too few or too many. It is safe for concurrent use.
func (f *Folder) Open(ctx context.Context, d node.Digest) (content io.ReadCloser, size int64, err error) {
	from, ok := f.sources[d]
	if !ok {
		return nil, 0, fmt.Errorf("open blob %s: %w", d, os.ErrNotExist)
	}
	checked := &checkedReader{ctx: ctx, want: from.blob, hash: newHasher()}
	if from.file == nil {
		checked.from = f.spool.open(from.places, from.blob.Size)
		return checked, from.blob.Size, nil
	}
	file, info, err := openFile(f.root, from.file.resolved)
	if err != nil {
		return nil, 0, fmt.Errorf("%s %w", showName(from.file.Name), err)
	}
	if stampOf(info) != from.file.at {
		return nil, 0, errors.Join(fmt.Errorf("%s: %w", showName(from.file.Name), ErrChanged), file.Close())
	}
	checked.from, checked.close, checked.name = file, file.Close, from.file.Name
	return checked, from.blob.Size, nil
}

// checkedReader reads content and checks it against its digest.
type checkedReader struct {
	ctx   context.Context //nolint:containedctx // an io.Reader that ends with its caller
	from  io.Reader
	close func() error // nil if there is nothing to close
	name  string       // of the file; empty if there is none
	want  node.Blob
	hash  *hasher
}

// Read implements io.Reader.
func (r *checkedReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.from.Read(p)
	if left := r.want.Size - r.hash.size; int64(n) > left {
		return int(left), r.changed()
	}
	_, _ = r.hash.Write(p[:n]) // never fails
	if errors.Is(err, io.EOF) && (r.hash.size != r.want.Size || r.hash.blob().Digest != r.want.Digest) {
		return n, r.changed()
	}
	return n, err
}

func (r *checkedReader) changed() error {
	if r.name == "" {
		return errors.New("temporary files of the publish have changed")
	}
	return fmt.Errorf("%s: %w", showName(r.name), ErrChanged)
}

// Close closes the file.
func (r *checkedReader) Close() error {
	if r.close == nil {
		return nil
	}
	return r.close()
}
