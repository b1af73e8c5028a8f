package edge

import (
	"bytes"
	"io"
	"slices"
	"strings"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"millrace/kvcache/httpcache"
	"millrace/mesh"
)

// minCompress is the body below which coding costs more than it saves.
const minCompress = 1 << 10

// compress codes a body that is text with the strongest coding that the client takes, once, when it is stored. The response then varies on
// Accept-Encoding, and its ETag is another, since a coding makes another representation (RFC 9110 §8.8.3).
func (c *cached) compress(x *Exchange, a *admitted, body []byte) (mesh.Header, []byte) {
	if !c.cfg.Compress || a.stored.Status != 200 || a.header.Has("Content-Encoding") || a.header.Has("Content-Range") || !isText(a.header.Get("Content-Type")) ||
		a.stored.Flags.Has(httpcache.NoTransform) || a.stored.Flags.Has(httpcache.Partial) || len(body) < minCompress {
		return a.header, body
	}
	coding, _, _ := strings.Cut(httpcache.AcceptEncoding(x.Header.Values("Accept-Encoding")), ",")
	a.vary = httpcache.VaryNames(append(slices.Clip(a.header), mesh.Field{Name: "Vary", Value: "Accept-Encoding"}))
	a.header.Set("Vary", strings.Join(a.vary, ", "))
	coded := encode(coding, body)
	if coded == nil || len(coded) >= len(body) {
		return a.header, body
	}
	if etag := a.header.Get("ETag"); strings.HasSuffix(etag, `"`) {
		a.header.Set("ETag", etag[:len(etag)-1]+"-"+coding+`"`)
	}
	a.header.Add("Content-Encoding", coding)
	return a.header, coded
}

// mediaType gives type and subtype of a Content-Type, in lower case and without parameters.
func mediaType(contentType string) string {
	kind, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	return strings.TrimSpace(kind)
}

func isText(contentType string) bool {
	kind := mediaType(contentType)
	switch kind {
	case "application/json", "application/javascript", "application/xml", "application/manifest+json", "image/svg+xml", "application/wasm", "application/problem+json":
		return true
	}
	return strings.HasPrefix(kind, "text/") || strings.HasSuffix(kind, "+json") || strings.HasSuffix(kind, "+xml")
}

// encode gives the coded body, or nil for a coding that isn't one.
func encode(coding string, body []byte) []byte {
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch coding {
	case "zstd":
		w, err = zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	case "br":
		w = brotli.NewWriterLevel(&out, 5)
	case "gzip":
		w, err = gzip.NewWriterLevel(&out, 6)
	default:
		return nil
	}
	if err != nil {
		return nil
	}
	if _, err := w.Write(body); err != nil {
		return nil
	}
	if w.Close() != nil {
		return nil
	}
	return out.Bytes()
}

// plain gives a stored header as the origin knows it: with the entity tag that the body had before compress.
func (c *cached) plain(h mesh.Header) (out mesh.Header, compressed bool) {
	base, ok := strings.CutSuffix(h.Get("ETag"), "-"+h.Get("Content-Encoding")+`"`)
	if !ok || !c.cfg.Compress {
		return h, c.cfg.Compress && h.Has("Content-Encoding")
	}
	out = append(mesh.Header(nil), h...)
	out.Set("ETag", base+`"`)
	return out, true
}

// recoded makes the fields of a confirmation, which speaks of the body before compress, those of the stored one.
func (c *cached) recoded(stored, confirmed mesh.Header) mesh.Header {
	if _, compressed := c.plain(stored); !compressed {
		return confirmed
	}
	if etag := stored.Get("ETag"); etag != "" {
		confirmed.Set("ETag", etag)
	}
	if names := httpcache.VaryNames(confirmed); !slices.Contains(names, "accept-encoding") {
		confirmed.Set("Vary", strings.Join(append(names, "accept-encoding"), ", "))
	}
	return confirmed
}
