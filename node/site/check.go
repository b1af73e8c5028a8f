package site

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"

	"millrace/node"
)

var (
	errTooManyFiles = fmt.Errorf("more than %d files", MaxFiles)
	errTooManyRules = fmt.Errorf("more than %d rules", MaxRules)
)

// check returns the first thing about m that no published folder has. A manifest comes over the network, and may lie.
func (m *Manifest) check() error {
	if m.Version != Version {
		return fmt.Errorf("version %d, and this node knows version %d", m.Version, Version)
	}
	if len(m.Files) > MaxFiles {
		return errTooManyFiles
	}
	if len(m.Headers) > MaxRules || len(m.Redirects) > MaxRules {
		return errTooManyRules
	}
	known := make(map[node.Digest]node.Blob, len(m.Files))
	for _, path := range slices.Sorted(maps.Keys(m.Files)) { // sorted, so that the error is the same each time
		f := m.Files[path]
		if err := checkPath(path); err != nil {
			return fmt.Errorf("file %s: %w", path, err)
		}
		if err := f.check(known); err != nil {
			return fmt.Errorf("file %s: %w", path, err)
		}
	}
	if err := checkHeaders(m.Headers); err != nil {
		return err
	}
	_, err := readRedirects(m.Redirects)
	return err
}

// checkPath returns why no file has this path.
func checkPath(path string) error {
	if len(path) == 0 || path[0] != '/' {
		return errors.New("a path begins with /")
	}
	name, err := url.PathUnescape(path[1:])
	if err != nil {
		return err
	}
	want, err := CheckName(name)
	if err != nil {
		return err
	}
	if path != want {
		return fmt.Errorf("its path is %s", want)
	}
	return nil
}

// check returns what is wrong with the blobs of a file. known has those seen so far: one digest has one size.
func (f *File) check(known map[node.Digest]node.Blob) error {
	if err := checkBlob(f.Blob, known); err != nil {
		return err
	}
	for _, coding := range slices.Sorted(maps.Keys(f.Codings)) {
		switch coding {
		case Brotli, Zstd, Gzip:
		case Identity:
			return errors.New("a coding without a name")
		default:
			return fmt.Errorf("unknown coding %q", coding)
		}
		if err := checkBlob(f.Codings[coding], known); err != nil {
			return fmt.Errorf("coding %s: %w", coding, err)
		}
	}
	return nil
}

// checkSizes returns an error if a file has more codings than there are, or a blob that can't be.
func (f *File) checkSizes() error {
	if len(f.Codings) > numCodings {
		return fmt.Errorf("more than %d codings", numCodings)
	}
	for coding, b := range f.Codings {
		if err := checkSize(b); err != nil {
			return fmt.Errorf("coding %s: %w", coding, err)
		}
	}
	return checkSize(f.Blob)
}

// checkSize returns what is wrong with a blob by itself.
func checkSize(b node.Blob) error {
	if err := b.Check(); err != nil {
		return err
	}
	if slices.Contains(b.Chunks, node.Digest{}) {
		return node.ErrBlob
	}
	if b.Size > MaxFile {
		return fmt.Errorf("%d bytes, more than %d", b.Size, int64(MaxFile))
	}
	return nil
}

func checkBlob(b node.Blob, known map[node.Digest]node.Blob) error {
	if err := checkSize(b); err != nil {
		return err
	}
	if other, ok := known[b.Digest]; ok && (other.Size != b.Size || !slices.Equal(other.Chunks, b.Chunks)) {
		return fmt.Errorf("digest %s has two sizes", b.Digest)
	}
	known[b.Digest] = b
	return nil
}
