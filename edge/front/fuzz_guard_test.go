package front_test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"millrace/edge/edgetest"
	"millrace/edge/front"
)

// played is a connection whose client has sent everything and closed its side.
type played struct {
	net.Conn
	in io.Reader
}

func (p played) Read(b []byte) (int, error)     { return p.in.Read(b) }
func (played) Write(b []byte) (int, error)      { return len(b), nil }
func (played) SetReadDeadline(time.Time) error  { return nil }
func (played) SetWriteDeadline(time.Time) error { return nil }
func (played) Close() error                     { return nil }
func (played) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// FuzzGuard reads the same bytes with the edge and with net/http: wherever both accept a request they agree about its
// method, path, query, host and body, and so about where the next one begins.
func FuzzGuard(f *testing.F) {
	for _, c := range edgetest.Corpus(f) {
		var whole []byte
		for _, part := range c.Parts {
			whole = append(whole, part.Bytes...)
		}
		f.Add(whole)
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		theirs := bufio.NewReaderSize(bytes.NewReader(bytes.TrimPrefix(sent, []byte("\r\n"))), 64<<10)
		for i, ours := range front.ReadAll(played{in: bytes.NewReader(sent)}) {
			req, err := http.ReadRequest(theirs)
			if err != nil {
				return // they refuse
			}
			body, err := io.ReadAll(io.LimitReader(req.Body, 1<<20))
			if err != nil {
				return
			}
			path, err := url.PathUnescape(ours.Path)
			if err != nil {
				t.Fatalf("request %d: canonical path %q can't be decoded", i, ours.Path)
			}
			switch {
			case ours.Method != req.Method:
				t.Errorf("request %d: method %q, net/http %q", i, ours.Method, req.Method)
			case path != pathOf(req):
				t.Errorf("request %d: path %q, net/http %q", i, path, pathOf(req))
			case strings.TrimPrefix(ours.Query, "?") != req.URL.RawQuery:
				t.Errorf("request %d: query %q, net/http %q", i, ours.Query, req.URL.RawQuery)
			case ours.Host != canonicalHost(req.Host):
				t.Errorf("request %d: host %q, net/http %q", i, ours.Host, req.Host)
			case !bytes.Equal(ours.Body, body):
				t.Errorf("request %d: body %q, net/http %q", i, ours.Body, body)
			}
			if req.Close {
				return // net/http ends the connection here
			}
		}
	})
}

// canonicalHost returns the edge's canonical spelling of a host: lower case, without the port of http, nor zeros before
// another one, nor a dot at the end of the name.
func canonicalHost(s string) string {
	name, port, found := strings.ToLower(s), "", false
	if i := strings.LastIndex(name, ":"); i > strings.LastIndex(name, "]") {
		name, port, found = name[:i], strings.TrimLeft(name[i+1:], "0"), true
	}
	if name = strings.TrimSuffix(name, "."); !found || port == "" || port == "80" {
		return name
	}
	return name + ":" + port
}

// pathOf returns net/http's decoded path. An absolute-form target without a path means "/" (RFC 9110 §4.2.3).
func pathOf(req *http.Request) string {
	if req.URL.Path == "" {
		return "/"
	}
	return req.URL.Path
}
