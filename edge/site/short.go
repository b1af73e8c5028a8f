package site

import (
	"net/http"

	"millrace/edge/exchange"
	"millrace/kvcache/httpcache"
	"millrace/mesh"
	"millrace/node"
)

// scratch is the memory that the sites keep with one exchange, for its response.
type scratch struct {
	fields   [4]mesh.Field // memory for the fields that are added
	response mesh.Response
	stored   stored
	body     fileBody // of a large file
	passed   bool     // the policy behind the sites has answered
}

// Whoever uses the other fields sets all of them first.
var local = exchange.NewLocal(func(s *scratch) { s.passed, s.body.buf = false, nil })

// answerNow returns a file that is in memory or on this node's disk, or says that the client's copy is good. Nil leaves
// the request to the full way. It doesn't allocate.
func (p *Policy) answerNow(x *exchange.Exchange) *mesh.Response {
	path, _, ok := p.path(x)
	if !ok || path == "" || x.Upgrade.Socket {
		return nil
	}
	f := p.find(x, path)
	if f.none() && p.passesOn && p.behind != nil {
		local.Make(x).passed = true
		return p.behind.Answer(x)
	}
	asks := askedOf(x.Header)
	if f.File == nil || f.Status != http.StatusOK || f.part == nil || !asks.plain {
		return nil
	}
	h := p.headOf(&f, path, &asks.weights)
	s := local.Make(x)
	switch asks.etag {
	case "":
		if !s.setFile(h) {
			return nil
		}
	case h.etag:
		s.stored = stored{lines: h.unchanged}
		s.response = mesh.Response{Status: http.StatusNotModified}
	default:
		return nil
	}
	s.response.Header = s.fields[:0]
	x.Outcome.Stored, x.Outcome.Cache = &s.stored, status
	return &s.response
}

// setFile sets the response with the whole file. It returns false if a small one isn't in memory, or a large one not on
// the disk.
func (s *scratch) setFile(h *head) bool {
	s.response = mesh.Response{Status: http.StatusOK, Length: h.size}
	s.stored = stored{lines: h.lines}
	if h.size <= small {
		s.response.Body = h.file.Bytes()
		return s.response.Body != nil
	}
	if !h.file.Here() {
		return false
	}
	file, err := h.file.Acquire()
	if err != nil {
		return false
	}
	s.body.of, s.body.file, s.body.offset, s.body.length = h.file, file, 0, h.size
	s.body.closed.Store(false)
	s.response.Stream, s.stored.body = &s.body, &s.body
	return true
}

// done ends a response of the short way.
func (p *Policy) done(x *exchange.Exchange, resp *mesh.Response) {
	if s := local.Of(x); s != nil && s.passed && p.behind.Done != nil {
		p.behind.Done(x, resp)
	}
}

// asked is what a GET asks for beside its path.
type asked struct {
	plain   bool   // nothing but etag and weights counts
	etag    string // If-None-Match, "" for none
	weights httpcache.Weights
}

// askedOf reads the fields that count for files. It doesn't allocate.
func askedOf(h mesh.Header) (a asked) {
	coded := false
	a.plain = true
	for i := range h {
		switch name := h[i].Name; name[0] | 0x20 {
		case 'a':
			coded = coded || node.SameName(name, "Accept-Encoding")
		case 'i':
			if !node.HasPrefixFold(name, "if-") {
				continue
			}
			a.plain = a.plain && a.etag == "" && node.SameName(name, "If-None-Match") && h[i].Value != ""
			a.etag = h[i].Value
		case 'r':
			a.plain = a.plain && !node.SameName(name, "Range")
		}
	}
	if coded {
		a.weights = httpcache.AcceptedCodings(h)
	}
	return a
}
