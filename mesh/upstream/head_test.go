package upstream_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"millrace/mesh"
	"millrace/mesh/upstream"
	"millrace/node"
	"millrace/node/http1"
)

// A target's response that isn't strictly RFC 9112 is accepted where the RFC allows it, or refused at once even if the
// target keeps its connection open.
func TestOddResponsesEndAtOnce(t *testing.T) {
	const broken = "" // as a body
	var all sync.WaitGroup
	for name, c := range map[string]struct{ answer, body string }{
		"LF ends every line":       {"HTTP/1.1 200 OK\nContent-Length: 2\nX-A: b\n\nok", "ok b"},
		"LF, no fields":            {"HTTP/1.1 204 No Content\n\n", " "},
		"LF, and CRLF in the body": {"HTTP/1.1 200 OK\nContent-Length: 6\n\na\r\n\r\nb", "a\r\n\r\nb "},
		"LF, interim first": {"HTTP/1.1 103 Early Hints\nLink: </a>\n\nHTTP/1.1 200 OK\r\n" +
			"Content-Length: 2\r\n\r\nok", "ok "},
		"LF and then CRLF":          {"HTTP/1.1 200 OK\nContent-Length: 2\r\nX-A: b\r\n\r\nok", broken},
		"LF and then an empty CRLF": {"HTTP/1.1 200 OK\nContent-Length: 2\n\r\nok", broken},
		"CRLF and then LF":          {"HTTP/1.1 200 OK\r\nContent-Length: 2\nX-A: b\n\nok", broken},
		"CRLF, split by a value": {"HTTP/1.1 200 OK\r\n" +
			"X-User: a\n\nHTTP/1.1 200 OK\nContent-Length: 6\n\nforged", broken},
		"a lone CR": {
			"HTTP/1.1 200 OK\r\nX-A: b\rX-C: d\r\nContent-Length: 2\r\n\r\nok",
			broken,
		},
		"space before the colon": {"HTTP/1.1 200 OK\r\nContent-Length : 2\r\nX-A \t: b\r\n\r\nok", "ok b"},
		"space before the colon, chunked": {"HTTP/1.1 200 OK\r\nTransfer-Encoding : chunked\r\n\r\n2\r\nok\r\n" +
			"0\r\n\r\n", "ok "},
		"space within a name":      {"HTTP/1.1 200 OK\r\nX A: b\r\nContent-Length: 2\r\n\r\nok", broken},
		"nothing before the colon": {"HTTP/1.1 200 OK\r\n : b\r\nContent-Length: 2\r\n\r\nok", broken},
		"folded": {"HTTP/1.1 200 OK\r\nX-A: b \r\n \t c\r\n\td\r\nContent-Length: 2\r\n\r\n" +
			"ok", "ok b c d"},
		"a fold that looks like a field": {"HTTP/1.1 200 OK\r\nX-A: b\r\n Content-Length: 9\r\n" +
			"Content-Length: 2\r\n\r\nok", "ok b Content-Length: 9"},
		"a folded length":                  {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n 2\r\n\r\nok", broken},
		"folded before the first field":    {"HTTP/1.1 200 OK\r\n X-A: b\r\nContent-Length: 2\r\n\r\nok", broken},
		"folded, ended by LF":              {"HTTP/1.1 200 OK\nX-A: b\n c\nContent-Length: 2\n\nok", "ok b c"},
		"another protocol":                 {"SSH-2.0-OpenSSH_9.2\r\n", broken},
		"another protocol, without a line": {"\x15\x03\x01\x00\x02\x02\x46", broken},
		"another version":                  {"HTTP/2.0 200 OK\r\n", broken},
		"a later minor version":            {"HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok "},
		"an empty line first":              {"\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", broken},
		"a chunk that ends in LF": {
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nok\r\n0\r\n\r\n",
			broken,
		},
		"chunk data that ends in LF": {
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\n0\r\n\r\n",
			broken,
		},
		"too much chunk data": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokay", broken},
		"no chunk size":       {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nhello", broken},
		"a trailer that ends in LF": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n" +
			"X-T: 1\n\n", broken},
		"an LF in place of the trailer": {
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\n",
			broken,
		},
		"space before a trailer's colon": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n" +
			"X-T : 1\r\n\r\n", "ok "},
	} {
		all.Go(func() {
			url, _ := keepAliveTarget(t, func(conn net.Conn, _ *http.Request) { _, _ = io.WriteString(conn, c.answer) })
			r := start(t, config(url))
			ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
			defer cancel()
			resp, err := readWhole(r.conn.Do(ctx, r.conn.Upstream("api"),
				&mesh.Request{
					Method: "POST", Target: "/", Host: "h", Body: []byte("x"),
					Deadline: time.Now().Add(5 * time.Second),
				}))
			got := broken
			if err == nil {
				got = string(resp.Body) + " " + resp.Header.Get("X-A")
			}
			if got != c.body || node.CodeOf(err) == node.CodeTimeout {
				t.Errorf("%s: got %q, %v, want %q", name, got, err, c.body)
			}
		})
	}
	all.Wait()
}

// Valid fields are kept as they are. Normalized fields are valid, and no more than there were lines.
func FuzzFields(f *testing.F) {
	for _, s := range []string{
		"A: b\r\n\r\n", "A : b\r\n\r\nrest", "A: b\r\n c\r\n\t\r\n\r\n", " A: b\r\n\r\n", "A: b\r\n\r\n C: d\r\n\r\n",
		": \r\n\r\n",
		"A \r\n: b\r\n\r\n", "A: b \r\n c : d\r\nE\t: \t\r\n f\r\n\r\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, block string) {
		strict, rest, strictErr := http1.ParseFields([]byte(block))
		got, gotRest, err := upstream.ParseFields([]byte(block))
		if strictErr == nil && (err != nil || len(got) != len(strict) || string(gotRest) != string(rest)) {
			t.Fatalf("%q: right fields became %q and %q, %v", block, got, gotRest, err)
		}
		if err != nil {
			return
		}
		if before, ok := strings.CutSuffix(block, "\r\n"+string(gotRest)); !ok ||
			strings.Count(before, "\r\n") < len(got) || strings.Contains(before, "\r\n\r\n") {
			t.Errorf("%q became %d fields and %q", block, len(got), gotRest)
		}
		for i, field := range got {
			if !http1.ValidField(field) || (strictErr == nil && field != strict[i]) ||
				field.Value != strings.Trim(field.Value, " \t") {
				t.Errorf("%q became %q", block, got)
			}
		}
	})
}
