package site

import (
	"net/http"
	"slices"

	"millrace/edge/exchange"
	"millrace/kvcache/httpcache"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/http1"
	"millrace/node/site"
)

// codings are the names of the codings in manifests.
var codings = [httpcache.NumCodings]site.Coding{
	httpcache.CodingBrotli: site.Brotli, httpcache.CodingZstd: site.Zstd, httpcache.CodingGzip: site.Gzip,
	httpcache.CodingIdentity: site.Identity,
}

// blobOf returns the content of a file in a coding. ok is false if there is none.
func blobOf(e *site.Entry, c httpcache.Coding) (b node.Blob, ok bool) {
	if c == httpcache.CodingIdentity {
		return e.Blob, true
	}
	b, ok = e.Codings[codings[c]]
	return b, ok
}

// codingsOf returns the codings that a file has.
func codingsOf(e *site.Entry) (there [httpcache.NumCodings]bool) {
	for c := range httpcache.NumCodings {
		_, there[c] = blobOf(e, c)
	}
	return there
}

// head is a file in one coding as it is sent at a path: everything of a response that doesn't depend on the request.
type head struct {
	etag  string
	file  File
	size  int64
	lines []byte // field lines of a 200
	// unchanged are those of lines that a 304 has, too: the end of them.
	unchanged []byte
}

// newHead makes the head of the file that is found, in a coding, for status 200, with the rules of _headers.
func (p *Policy) newHead(f *found, rules *site.Rules, c httpcache.Coding) *head {
	b, _ := blobOf(f.File, c)
	fields := p.fields(f, rules, c, http.StatusOK)
	kept := httpcache.NotModifiedHeader(fields)
	fields.Delete(func(f mesh.Field) bool { return kept.Has(f.Name) })
	h := &head{etag: site.ETag(b.Digest, codings[c]), file: p.room.sites.File(b), size: b.Size}
	h.lines = httpcache.AppendHead(make([]byte, 0, 512), fields)
	at := len(h.lines)
	h.lines = httpcache.AppendHead(h.lines, kept)
	h.unchanged = h.lines[at:]
	return h
}

// Names of fields that every response with a file has.
const (
	deployField = "Millrace-Deploy"
	sniffField  = "X-Content-Type-Options"
)

// deployID is how much of a deploy's id responses tell.
func deployID(id node.Digest) string { return id.String()[:previewDigits] }

// fields returns the fields of a response with the file, in a coding. The rules of _headers come first, then what
// describes the file, then the rules of the route.
func (p *Policy) fields(f *found, rules *site.Rules, c httpcache.Coding, code int) mesh.Header {
	e := f.File
	b, _ := blobOf(e, c)
	h := mesh.Header{
		{Name: "Content-Type", Value: e.Type}, {Name: "Cache-Control", Value: site.CacheControl(e, code)},
	}
	if site.RulesApply(code) {
		applyRules(&h, rules)
	}
	if c != httpcache.CodingIdentity {
		h.Set("Content-Encoding", string(codings[c]))
	}
	if site.RulesApply(code) {
		h.Set("ETag", site.ETag(b.Digest, codings[c]))
		h.Set("Accept-Ranges", "bytes")
	}
	if len(e.Codings) > 0 {
		h.Add("Vary", "Accept-Encoding")
	}
	h.Set(sniffField, "nosniff")
	h.Set(deployField, deployID(f.deploy.ID))
	h.Set("Cache-Status", string(status.Append(nil)))
	if p.preview != "" {
		markPreview(&h)
	}
	if w := p.route.Rewrite; w != nil {
		exchange.Edit(&h, &w.Response)
	}
	return h
}

// applyRules applies rules of _headers, which may be nil.
func applyRules(h *mesh.Header, rules *site.Rules) {
	if rules == nil {
		return
	}
	for _, name := range rules.Unset {
		h.Del(name)
	}
	for _, f := range rules.Set {
		h.Del(f.Name)
	}
	for _, f := range rules.Set { // a name may repeat
		h.Add(f.Name, f.Value)
	}
}

// stored is an exchange.Stored of a head.
type stored struct {
	lines []byte
	body  *fileBody // of a response of the short way; nil if that is in memory
}

// AppendHead appends the lines. Date isn't one of them.
func (s *stored) AppendHead(b []byte) (lines []byte, dated bool) { return append(b, s.lines...), false }

// Header returns the fields.
func (s *stored) Header() mesh.Header {
	h, _, _ := http1.ParseFields(append(slices.Clip(s.lines), "\r\n"...)) // made here, so it is valid
	return h
}

// Release closes the file, if there is one.
func (s *stored) Release() {
	if s.body != nil {
		_ = s.body.Close() // never fails
	}
}
