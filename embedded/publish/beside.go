package publish

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/molecule-man/go-brrr"

	"millrace/node"
	"millrace/node/site"
)

// endings are those of files that hold a coding of the file beside them.
var endings = map[site.Coding]string{site.Brotli: ".br", site.Zstd: ".zst", site.Gzip: ".gz"}

// checkBeside decodes the files that are codings of others by their names, and keeps them as such. One that is
// something else, or that needs more memory than browsers give it, is a problem.
func (f *Folder) checkBeside(ctx context.Context, found *problems) error {
	byName := make(map[string]*File, len(f.Files))
	for _, file := range f.Files {
		byName[file.Name] = file
	}
	for _, file := range f.Files {
		if !worthEncoding(file) {
			continue
		}
		for _, coding := range codings {
			twin := byName[file.Name+endings[coding]]
			if twin == nil {
				continue
			}
			err := f.checkCoding(ctx, coding, file, twin)
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case err != nil:
				found.add(Bad, twin.Name, "isn't the %s form of %s: %v; remove it, and it is made anew", coding,
					showName(file.Name), err)
			case twin.Size < file.Size:
				f.keepBeside(coding, file, twin)
			}
		}
	}
	return nil
}

func (f *Folder) keepBeside(coding site.Coding, file, twin *File) {
	if f.codings[file.Digest] == nil {
		f.codings[file.Digest] = map[site.Coding]node.Blob{}
	}
	f.codings[file.Digest][coding] = twin.Blob
}

// checkCoding reports why twin isn't the coding of file. It decodes no more than the size of file and a little.
func (f *Folder) checkCoding(ctx context.Context, coding site.Coding, file, twin *File) (err error) {
	content, _, err := f.Open(ctx, twin.Digest)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	decoded, release, err := newDecoder(coding, content)
	if err != nil {
		return err
	}
	defer release()
	hash := newHasher()
	if _, err := io.Copy(hash, io.LimitReader(decoded, file.Size+1)); err != nil {
		return fmt.Errorf("decode it: %w", err)
	}
	if hash.size != file.Size || hash.blob().Digest != file.Digest {
		return errors.New("its content is another")
	}
	if n, _ := io.ReadFull(content, make([]byte, 1)); n > 0 {
		return errors.New("something follows its end")
	}
	return nil
}

// newDecoder returns a reader that decodes, with bounded memory, and a function that frees it.
func newDecoder(coding site.Coding, from io.Reader) (decoded io.Reader, release func(), err error) {
	switch coding {
	case site.Brotli:
		r := brrr.NewReader(from)
		return r, func() { _ = r.Close() }, nil // frees memory only
	case site.Zstd:
		r, err := zstd.NewReader(from, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(zstdWindow))
		if err != nil {
			return nil, nil, err
		}
		return r, r.Close, nil
	case site.Gzip:
		r, err := gzip.NewReader(from)
		if err != nil {
			return nil, nil, err
		}
		return r, func() { _ = r.Close() }, nil // reports nothing that Read hasn't
	case site.Identity:
	}
	return nil, nil, errNoCoding
}
