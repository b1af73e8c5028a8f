package cache

import (
	"bytes"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"millrace/edge/exchange"
	"millrace/kvcache/httpcache"
	"millrace/mesh"
	"millrace/node/http1"
)

// minCompress is the body below which coding costs more than it saves.
const minCompress = 1 << 10

// compress codes a body that is text with the strongest coding that the client takes, once, when it is stored. The
// response then varies on Accept-Encoding, and its ETag is another, since a coding makes another representation (RFC
// 9110 §8.8.3). The one that brought it gets the same.
func (c *coding) compress(x *exchange.Exchange, a *admitted, resp *mesh.Response) {
	if a.stored.Status != 200 || a.stored.Flags.Has(httpcache.NoTransform) || len(resp.Body) < minCompress ||
		!c.codes(a.header) {
		return
	}
	a.vary = slices.DeleteFunc(variesOnCoding(a.header), inKey)
	coding, _, _ := strings.Cut(httpcache.AcceptEncoding(x.Header.Values("Accept-Encoding")), ",")
	coded := encode(coding, resp.Body)
	useful := coded != nil && len(coded) < len(resp.Body)
	for _, h := range []*mesh.Header{&a.header, &resp.Header} {
		h.Set("Vary", strings.Join(variesOnCoding(*h), ", "))
		if useful {
			markCoded(h, coding)
		}
	}
	if useful {
		resp.Body = coded
	}
}

// codes reports whether the route compresses responses with such fields.
func (c *coding) codes(h mesh.Header) bool {
	return c.cfg.Compress && !h.Has("Content-Encoding") && !h.Has("Content-Range") && isText(h.Get("Content-Type"))
}

// markCoded says what a coding has made of a representation: another one, of which the origin's digests say nothing
// (RFC 9530).
func markCoded(h *mesh.Header, coding string) {
	for _, digest := range [...]string{"Content-Digest", "Repr-Digest", "Digest", "Content-MD5"} {
		h.Del(digest)
	}
	if etag := h.Get("ETag"); strings.HasSuffix(etag, `"`) {
		h.Set("ETag", etag[:len(etag)-1]+"-"+coding+`"`)
	}
	h.Add("Content-Encoding", coding)
}

// varies makes the response to a HEAD say that the one to a GET depends on Accept-Encoding.
func (c *coding) varies(resp *mesh.Response) {
	n, err := strconv.ParseInt(resp.Header.Get("Content-Length"), 10, 64)
	if resp.Status == 200 && err == nil && n >= minCompress && c.codes(resp.Header) &&
		!httpcache.ResponseControl(resp.Header, c.rules.Targets).NoTransform {
		resp.Header.Set("Vary", strings.Join(variesOnCoding(resp.Header), ", "))
	}
}

// variesOnCoding gives the names in Vary, and Accept-Encoding.
func variesOnCoding(h mesh.Header) []string {
	return httpcache.VaryNames(append(slices.Clip(h), mesh.Field{Name: "Vary", Value: "Accept-Encoding"}))
}

func isText(contentType string) bool {
	kind := http1.MediaType(contentType)
	switch kind {
	case "application/json", "application/javascript", "application/xml", "application/manifest+json", "image/svg+xml",
		"application/wasm", "application/problem+json":
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
func (c *coding) plain(h mesh.Header) (out mesh.Header, compressed bool) {
	base, ok := strings.CutSuffix(h.Get("ETag"), "-"+h.Get("Content-Encoding")+`"`)
	if !ok || !c.cfg.Compress {
		return h, c.cfg.Compress && h.Has("Content-Encoding")
	}
	out = append(mesh.Header(nil), h...)
	out.Set("ETag", base+`"`)
	return out, true
}

// recoded makes the fields of a confirmation, which speaks of the body before compress, those of the stored one.
func (c *coding) recoded(stored, confirmed mesh.Header) mesh.Header {
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
