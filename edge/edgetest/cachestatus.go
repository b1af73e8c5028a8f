package edgetest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/dunglas/httpsfv"
)

// Seen is a response as a client saw it.
type Seen struct {
	*http.Response

	Text      string
	Broken    error // what ended the body before its time
	Interim   []*http.Response
	Hit       bool // what Cache-Status said
	Fwd       string
	FwdStatus int64 // fwd-status
	TTL       int64
	HasTTL    bool
	Stored    bool
	Collapsed bool // collapsed
	Detail    string
}

// String tells status, body and what the cache said.
func (s *Seen) String() string {
	return fmt.Sprintf("%d %q, Cache-Status %q, Age %q", s.StatusCode, Shorten(s.Text), s.Header.Get("Cache-Status"),
		s.Header.Get("Age"))
}

// Shorten gives at most 60 bytes of a text.
func Shorten(s string) string {
	if len(s) > 60 {
		return s[:60] + "..."
	}
	return s
}

// Get asks for a path of http://example.test, with header fields in turn.
func (r *Rig) Get(tb testing.TB, path string, header ...string) *Seen {
	tb.Helper()
	return r.Ask(tb, "GET", path, "", header...)
}

// Ask sends a request with a body, which may be empty, to http://example.test, with header fields in turn.
func (r *Rig) Ask(tb testing.TB, method, path, body string, header ...string) *Seen {
	tb.Helper()
	if body != "" {
		header = append(slices.Clip(header), "Content-Length", strconv.Itoa(len(body)))
	}
	return r.Send(tb, method, RequestHead(method, path, header)+body)
}

// Send sends bytes as they are and reads the response to them.
func (r *Rig) Send(tb testing.TB, method, request string) *Seen {
	tb.Helper()
	c := r.Dial(tb)
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		tb.Fatal(err)
	}
	return Receive(tb, bufio.NewReader(c), method)
}

// Receive reads a response with its body and checks what must be true of every one.
func Receive(tb testing.TB, from *bufio.Reader, method string) *Seen {
	tb.Helper()
	s := &Seen{}
	for {
		resp, err := http.ReadResponse(from, &http.Request{Method: method})
		if err != nil {
			tb.Errorf("read the response: %v", err)
			s.Response = &http.Response{Header: http.Header{}}
			return s
		}
		if resp.StatusCode >= 200 {
			s.Response = resp
			break
		}
		s.Interim = append(s.Interim, resp) //nolint:bodyclose // such a response has none
	}
	var b bytes.Buffer
	_, s.Broken = io.Copy(&b, s.Body)
	_ = s.Body.Close()
	s.Text = b.String()
	s.check(tb)
	return s
}

// check reads Cache-Status (RFC 9211) and looks at what no response may have, or miss.
func (s *Seen) check(tb testing.TB) {
	tb.Helper()
	h := s.Header
	if lines := h.Values("Cache-Status"); len(lines) > 0 {
		list, err := httpsfv.UnmarshalList(lines)
		if err != nil || len(list) == 0 {
			tb.Fatalf("Cache-Status %q: %v", lines, err)
		}
		item, ok := list[len(list)-1].(httpsfv.Item) // the nearest cache comes last
		if name, isToken := item.Value.(httpsfv.Token); !ok || !isToken || name != "Millrace" {
			tb.Errorf("Cache-Status %q doesn't end with this cache", lines)
		}
		s.read(tb, item.Params)
	}
	if n := len(h.Values("Date")); n != 1 {
		tb.Errorf("%d Date fields", n)
	}
	if n := len(h.Values("Age")); n > 1 || (s.Hit && n == 0) {
		tb.Errorf("%d Age fields with a hit: %t", n, s.Hit)
	}
	if len(h.Values("Content-Length")) > 1 {
		tb.Errorf("Content-Length %q", h.Values("Content-Length"))
	}
	for _, name := range []string{"Millrace-CDN-Cache-Control", "Surrogate-Control", "Proxy-Authenticate"} {
		if h.Get(name) != "" {
			tb.Errorf("%s reached a client", name)
		}
	}
}

func (s *Seen) read(tb testing.TB, p *httpsfv.Params) {
	tb.Helper()
	for _, name := range p.Names() {
		v, _ := p.Get(name)
		var ok bool
		switch name {
		case "hit":
			s.Hit, ok = v.(bool)
		case "stored":
			s.Stored, ok = v.(bool)
		case "collapsed":
			s.Collapsed, ok = v.(bool)
		case "ttl":
			s.TTL, ok = v.(int64)
			s.HasTTL = true
		case "fwd-status":
			s.FwdStatus, ok = v.(int64)
		case "fwd":
			var token httpsfv.Token
			token, ok = v.(httpsfv.Token)
			s.Fwd = string(token)
			ok = ok && strings.Contains(" bypass method uri-miss vary-miss miss request stale partial ", " "+s.Fwd+" ")
		case "detail":
			switch d := v.(type) {
			case httpsfv.Token:
				s.Detail, ok = string(d), true
			case string:
				s.Detail, ok = d, true
			}
		case "key":
			_, ok = v.(string)
		}
		if !ok {
			tb.Errorf("Cache-Status %q: parameter %s has a type of its own", s.Header.Values("Cache-Status"), name)
		}
	}
	if s.Hit == (s.Fwd != "") {
		tb.Errorf("Cache-Status %q: hit and fwd exclude each other (RFC 9211 §2.2)", s.Header.Values("Cache-Status"))
	}
}

// WantHit checks that a response came from the cache.
func (s *Seen) WantHit(tb testing.TB, what, body string) {
	tb.Helper()
	if !s.Hit || s.Text != body || s.Broken != nil {
		tb.Errorf("%s: got %s, want a hit with %q", what, s, Shorten(body))
	}
}

// WantFwd checks that a response came from the origin, and why.
func (s *Seen) WantFwd(tb testing.TB, what, fwd, body string) {
	tb.Helper()
	if s.Hit || s.Fwd != fwd || s.Text != body || s.Broken != nil {
		tb.Errorf("%s: got %s, want fwd=%s with %q", what, s, fwd, Shorten(body))
	}
}
