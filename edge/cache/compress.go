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

// minCompress is the size of a body below which compression costs more than it saves.
const minCompress = 1 << 10

// compress compresses a text body once, when it is stored, with the best coding that the client accepts. The response
// then varies on Accept-Encoding and has another ETag, since a coding makes another representation (RFC 9110 §8.8.3).
// The request that caused the fetch gets the compressed body too.
func (c *coding) compress(x *exchange.Exchange, a *admitted, resp *mesh.Response) {
	if a.stored.Status != 200 || a.stored.Flags.Has(httpcache.NoTransform) || len(resp.Body) < minCompress ||
		!c.compressible(a.header) {
		return
	}
	a.vary = slices.DeleteFunc(varyWithCoding(a.header), inKey)
	coding, _, _ := strings.Cut(httpcache.AcceptEncoding(x.Header.Values("Accept-Encoding")), ",")
	coded := encode(coding, resp.Body)
	useful := coded != nil && len(coded) < len(resp.Body)
	for _, h := range []*mesh.Header{&a.header, &resp.Header} {
		h.Set("Vary", strings.Join(varyWithCoding(*h), ", "))
		if useful {
			markCoded(h, coding)
		}
	}
	if useful {
		resp.Body = coded
	}
}

// compressible reports whether the route compresses responses with such fields.
func (c *coding) compressible(h mesh.Header) bool {
	return c.cfg.Compress && !h.Has("Content-Encoding") && !h.Has("Content-Range") && isText(h.Get("Content-Type"))
}

// markCoded sets the fields of a compressed representation. The origin's digests are of the other one, so they are
// removed (RFC 9530).
func markCoded(h *mesh.Header, coding string) {
	for _, digest := range [...]string{"Content-Digest", "Repr-Digest", "Digest", "Content-MD5"} {
		h.Del(digest)
	}
	if etag := h.Get("ETag"); strings.HasSuffix(etag, `"`) {
		h.Set("ETag", etag[:len(etag)-1]+"-"+coding+`"`)
	}
	h.Add("Content-Encoding", coding)
}

// addVary adds Accept-Encoding to the Vary of a response to HEAD if the response to GET would be compressed.
func (c *coding) addVary(resp *mesh.Response) {
	n, err := strconv.ParseInt(resp.Header.Get("Content-Length"), 10, 64)
	if resp.Status == 200 && err == nil && n >= minCompress && c.compressible(resp.Header) &&
		!httpcache.ResponseControl(resp.Header, c.rules.Targets).NoTransform {
		resp.Header.Set("Vary", strings.Join(varyWithCoding(resp.Header), ", "))
	}
}

// varyWithCoding returns the names in Vary and Accept-Encoding.
func varyWithCoding(h mesh.Header) []string {
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

// encode returns the compressed body, or nil if the coding isn't known or fails.
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

// originHeader returns the fields of a stored response as the origin sent them: with the entity tag from before
// compression. compressed reports whether this cache may have compressed the body.
func (c *coding) originHeader(h mesh.Header) (out mesh.Header, compressed bool) {
	base, ok := strings.CutSuffix(h.Get("ETag"), "-"+h.Get("Content-Encoding")+`"`)
	if !ok || !c.cfg.Compress {
		return h, c.cfg.Compress && h.Has("Content-Encoding")
	}
	out = append(mesh.Header(nil), h...)
	out.Set("ETag", base+`"`)
	return out, true
}

// storedForm changes the fields of a confirmation, which is about the uncompressed body, into those of the stored one.
func (c *coding) storedForm(stored, confirmed mesh.Header) mesh.Header {
	if _, compressed := c.originHeader(stored); !compressed {
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
