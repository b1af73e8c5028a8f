package publish

import (
	"errors"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/molecule-man/go-brrr"

	"millrace/node/site"
)

// codings are the codings that are made, in the order of their size.
var codings = []site.Coding{site.Brotli, site.Zstd, site.Gzip}

// Levels of the codings. Gzip's 6 is where more effort hardly pays; brotli's 11 takes thirteen times as long as 9.
const (
	brotliLevel     = 9
	brotliLevelBest = 11
	gzipLevel       = 6
)

// zstdWindow is the largest window that a browser must accept, in bytes (RFC 9659 §3).
const zstdWindow = 8 << 20

// encoder writes one coding. It may be used for one content after another. The same content gives the same bytes.
type encoder interface {
	// begin starts the next content, of which size bytes will be written. It must be closed, and what it writes to must
	// not fail: else goroutines may stay.
	begin(to io.Writer, size int64)
	io.WriteCloser
}

// errNoCoding means that a coding has no encoder.
var errNoCoding = errors.New("there is no such coding")

// newEncoder returns an encoder. best asks for the smallest result at whatever cost.
func newEncoder(coding site.Coding, best bool) (encoder, error) {
	switch coding {
	case site.Brotli:
		if best {
			return new(bestBrotliEncoder), nil
		}
		w, err := brrr.NewWriter(io.Discard, brotliLevel)
		return brotliEncoder{w}, err
	case site.Zstd:
		w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1),
			zstd.WithWindowSize(zstdWindow), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
		return zstdEncoder{w}, err
	case site.Gzip:
		w, err := gzip.NewWriterLevel(io.Discard, gzipLevel)
		return gzipEncoder{w}, err
	case site.Identity:
	}
	return nil, errNoCoding
}

type brotliEncoder struct{ *brrr.Writer }

func (e brotliEncoder) begin(to io.Writer, size int64) { e.ResetWithSizeHint(to, uint(max(size, 0))) }

// bestBrotliEncoder has a new writer for each content: at level 11 a writer that is used again keeps goroutines for
// ever, and so does one that isn't closed.
type bestBrotliEncoder struct{ *brrr.Writer }

func (e *bestBrotliEncoder) begin(to io.Writer, size int64) {
	e.Writer, _ = brrr.NewWriterOptions(to, brotliLevelBest, brrr.WriterOptions{SizeHint: uint(max(size, 0))})
}

type zstdEncoder struct{ *zstd.Encoder }

func (e zstdEncoder) begin(to io.Writer, size int64) { e.ResetContentSize(to, size) }

type gzipEncoder struct{ *gzip.Writer }

// begin leaves the header's time and name empty, so that equal files have equal bytes.
func (e gzipEncoder) begin(to io.Writer, _ int64) { e.Reset(to) }
