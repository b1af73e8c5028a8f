package mesh_test

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"

	"millrace/mesh"
	"millrace/node/http1"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func sampleRequest() *mesh.Request {
	r := &mesh.Request{
		Method: "POST", Target: "/users/42?full=1", Host: "api.example.com", Route: "users",
		Body: []byte(`{"a":1}`),
	}
	for _, name := range []string{
		"Accept", "Accept-Encoding", "Accept-Language", "Authorization", "Cache-Control", "Content-Type", "Cookie",
		"Dnt", "Origin",
		"Pragma", "Referer", "Sec-Fetch-Dest", "Sec-Fetch-Mode", "Sec-Fetch-Site", "User-Agent", "X-Forwarded-For",
		"X-Forwarded-Host", "X-Forwarded-Proto", "X-Request-Id", "Traceparent",
	} {
		r.Header.Add(name, "value of "+name)
	}
	return r
}

func TestRequestRoundTrip(t *testing.T) {
	want := sampleRequest()
	payload, err := mesh.AppendRequest(nil, want, 1500*time.Millisecond, "n.1")
	if err != nil {
		t.Fatal(err)
	}
	got, err := mesh.DecodeRequest(payload, noon)
	if err != nil {
		t.Fatal(err)
	}
	want.Nonce, want.Deadline = "n.1", noon.Add(1500*time.Millisecond)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

// A request has the bytes that PROTOCOL.md shows. Members in other languages rely on them.
func TestRequestMatchesProtocol(t *testing.T) {
	r := &mesh.Request{
		Method: "GET", Target: "/a?b=c", Host: "h", Route: "a",
		Header: mesh.Header{{Name: "X-A", Value: "1"}},
	}
	payload, err := mesh.AppendRequest(nil, r, 30*time.Second, "p.7")
	want := "GET /a?b=c HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nMillrace-Wire: 1\r\nMillrace-Deadline: 30000\r\n" +
		"Millrace-Nonce: p.7\r\nMillrace-Route: a\r\n\r\n"
	if err != nil || string(payload) != want {
		t.Errorf("got %q, %v\nwant %q", payload, err, want)
	}
}

func TestDecodeRequestRefuses(t *testing.T) {
	for name, payload := range map[string]string{
		"empty":              "",
		"no version":         "GET /\r\nHost: a\r\n\r\n",
		"wrong version":      "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
		"no host":            "GET / HTTP/1.1\r\n\r\n",
		"two hosts":          "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
		"absolute-form":      "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
		"length":             "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab",
		"signed length":      "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +2\r\n\r\nab",
		"transfer-encoding":  "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"wire version":       "GET / HTTP/1.1\r\nHost: a\r\nMillrace-Wire: 2\r\n\r\n",
		"space before colon": "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
		"folding":            "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n",
		"bare LF":            "GET / HTTP/1.1\nHost: a\n\n",
		"no end":             "GET / HTTP/1.1\r\nHost: a\r\n",
	} {
		if r, err := mesh.DecodeRequest([]byte(payload), noon); err == nil {
			t.Errorf("%s: accepted as %+v", name, r)
		}
	}
}

// Valid replies are accepted and invalid ones refused. Control and hop-by-hop fields are dropped.
func TestDecodeResponse(t *testing.T) {
	huge := strings.Repeat("x", mesh.MaxBody+1)
	for _, c := range []struct {
		name, method, payload string
		status                int // 0: refused
		header                mesh.Header
		body                  string
	}{
		{"plain", "GET", "HTTP/1.1 200 OK\r\nX: 1\r\n\r\nhi", 200, mesh.Header{{Name: "X", Value: "1"}}, "hi"},
		{"no reason", "GET", "HTTP/1.1 404\r\n\r\n", 404, mesh.Header{}, ""},
		{"length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, mesh.Header{}, "hi"},
		{
			"repeated fields", "GET", "HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\n\r\n", 200,
			mesh.Header{{Name: "Set-Cookie", Value: "a=1"}, {Name: "set-cookie", Value: "b=2"}},
			"",
		},
		{
			"control and hop-by-hop", "GET",
			"HTTP/1.1 200 OK\r\nMillrace-Busy: 1\r\nNats-Rollup: all\r\nConnection: x-a\r\nX-A: 1\r\nUpgrade: h\r\n" +
				"B: 2\r\n\r\n", 200,
			mesh.Header{{Name: "B", Value: "2"}},
			"",
		},
		{
			"head keeps length", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", 200,
			mesh.Header{{Name: "Content-Length", Value: "99"}},
			"",
		},
		{
			"head with a body", "HEAD", "HTTP/1.1 200 OK\r\n\r\nhello", 200,
			mesh.Header{{Name: "Content-Length", Value: "5"}},
			"",
		},
		{"204", "GET", "HTTP/1.1 204 No Content\r\n\r\n", 204, mesh.Header{}, ""},
		{
			"304", "GET", "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n", 304,
			mesh.Header{{Name: "ETag", Value: `"a"`}},
			"",
		},
		{"204 with body", "GET", "HTTP/1.1 204 No Content\r\n\r\nx", 0, nil, ""},
		{"304 with body", "GET", "HTTP/1.1 304 Not Modified\r\n\r\nx", 0, nil, ""},
		{"short", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi", 0, nil, ""},
		{"long", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nhi", 0, nil, ""},
		{"two lengths", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi", 0, nil, ""},
		{"chunked", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0, nil, ""},
		{"interim", "GET", "HTTP/1.1 100 Continue\r\n\r\n", 0, nil, ""},
		{"status too high", "GET", "HTTP/1.1 600 X\r\n\r\n", 0, nil, ""},
		{"HTTP/1.0", "GET", "HTTP/1.0 200 OK\r\n\r\n", 0, nil, ""},
		{"plain text", "GET", "hello", 0, nil, ""},
		{"empty", "GET", "", 0, nil, ""},
		{"NUL in a value", "GET", "HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n", 0, nil, ""},
		{"CR in a value", "GET", "HTTP/1.1 200 OK\r\nX: a\rY: b\r\n\r\n", 0, nil, ""},
		{
			"too many fields", "GET", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: 1\r\n", http1.MaxFields+1) + "\r\n", 0,
			nil, "",
		},
		{"too large", "GET", "HTTP/1.1 200 OK\r\n\r\n" + huge, 0, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := mesh.DecodeResponse([]byte(c.payload), c.method)
			if c.status == 0 {
				if err == nil {
					t.Fatalf("accepted as %+v", r)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if r.Status != c.status || string(r.Body) != c.body || len(r.Header) != len(c.header) {
				t.Fatalf("got %+v", r)
			}
			for i := range c.header {
				if r.Header[i] != c.header[i] {
					t.Errorf("field %d is %v, want %v", i, r.Header[i], c.header[i])
				}
			}
		})
	}
}

// What a Go handler returns can't inject fields into the message.
func TestAppendRefusesInvalidMessages(t *testing.T) {
	for name, h := range map[string]mesh.Header{
		"CRLF":       {{Name: "X", Value: "a\r\nSet-Cookie: b=1"}},
		"NUL":        {{Name: "X", Value: "\x00"}},
		"empty name": {{Name: "", Value: "a"}},
		"colon":      {{Name: "X:Y", Value: "a"}},
	} {
		if _, err := mesh.AppendResponse(nil, &mesh.Response{Status: 200, Header: h}, "GET"); err == nil {
			t.Errorf("response with %s was written", name)
		}
		if _, err := mesh.AppendRequest(nil, &mesh.Request{Method: "GET", Target: "/", Host: "a", Header: h},
			time.Second, "n"); err == nil {
			t.Errorf("request with %s was written", name)
		}
	}
	for _, r := range []mesh.Request{
		{Method: "GET", Target: "/a b", Host: "a"},
		{Method: "GET", Target: "/a\r\nX: y", Host: "a"},
		{Method: "G T", Target: "/", Host: "a"},
		{Method: "GET", Target: "/", Host: "a\r\nX: y"},
		{Method: "GET", Target: "a", Host: "a"},
		{Method: "", Target: "/", Host: "a"},
	} {
		if _, err := mesh.AppendRequest(nil, &r, time.Second, "n"); err == nil {
			t.Errorf("request %+v was written", r)
		}
	}
}

func TestCodecAllocations(t *testing.T) {
	req := sampleRequest()
	buf := make([]byte, 0, 8192)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := mesh.AppendRequest(buf, req, time.Second, "nonce"); err != nil {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("writing a request allocates %.0f times", n)
	}
	payload, _ := mesh.AppendRequest(nil, req, time.Second, "nonce")
	if n := testing.AllocsPerRun(100, func() {
		if _, err := mesh.DecodeRequest(payload, noon); err != nil {
			t.Error(err)
		}
	}); n > 2 { // the request and its header
		t.Errorf("reading a request allocates %.0f times", n)
	}
	reply := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-A: b\r\n\r\nhello")
	if n := testing.AllocsPerRun(100, func() {
		if _, err := mesh.DecodeResponse(reply, "GET"); err != nil {
			t.Error(err)
		}
	}); n > 2 {
		t.Errorf("reading a response allocates %.0f times", n)
	}
}

func FuzzDecodeRequest(f *testing.F) {
	sample, _ := mesh.AppendRequest(nil, sampleRequest(), time.Second, "nonce")
	f.Add(sample)
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab"))
	f.Add([]byte("HEAD /a?b HTTP/1.1\r\nhost:\r\nMillrace-Deadline: 5\r\n\r\n"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		r, err := mesh.DecodeRequest(bytes.Clone(payload), noon)
		if err != nil {
			return
		}
		again, err := mesh.AppendRequest(nil, r, r.Deadline.Sub(noon), r.Nonce)
		if len(r.Body) > mesh.MaxBody {
			return
		}
		if err != nil {
			t.Fatalf("decoded but can't be written: %v", err)
		}
		back, err := mesh.DecodeRequest(again, noon)
		if err != nil || back.Method != r.Method || back.Target != r.Target || back.Host != r.Host ||
			len(back.Header) != len(r.Header) || !bytes.Equal(back.Body, r.Body) {
			t.Fatalf("%q\nbecame %q, %v", payload, again, err)
		}
	})
}

func FuzzDecodeResponse(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi"), "GET")
	f.Add([]byte("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n"), "HEAD")
	f.Add([]byte("HTTP/1.1 204 \r\nConnection: X\r\nX: y\r\n\r\n"), "POST")
	f.Fuzz(func(t *testing.T, payload []byte, method string) {
		r, err := mesh.DecodeResponse(bytes.Clone(payload), method)
		if err != nil {
			_ = mesh.ReplyHint(payload)
			return
		}
		if r.Status < 200 || r.Status > 599 || (method == "HEAD" && len(r.Body) > 0) {
			t.Fatalf("accepted %q as %+v", payload, r)
		}
		for _, fld := range r.Header {
			if strings.ContainsAny(fld.Name+fld.Value, "\r\n\x00") ||
				strings.HasPrefix(strings.ToLower(fld.Name), "millrace-") {
				t.Fatalf("field %q came through", fld)
			}
		}
		again, err := mesh.AppendResponse(nil, r, method)
		if err != nil {
			t.Fatalf("decoded but can't be written: %v", err)
		}
		back, err := mesh.DecodeResponse(again, method)
		if err != nil || back.Status != r.Status || back.Reason != r.Reason || !bytes.Equal(back.Body, r.Body) {
			t.Fatalf("%q\nbecame %q, %v", payload, again, err)
		}
	})
}

// An accepted head of a stream is valid, has no field of the mesh's own, and announces no less than has come.
func FuzzStreamHeads(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhi"))
	f.Add([]byte("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Protocol: a\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"))
	f.Add([]byte("POST /up HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\nMillrace-Wire: 1\r\n" +
		"Millrace-Upgrade: messages\r\n\r\n"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		var fields mesh.Header
		if r, err := mesh.DecodeStreamed(bytes.Clone(payload), true); err == nil {
			if (r.Status != 101 && r.Status < 200) || r.Status > 599 ||
				(r.Length >= 0 && int64(len(r.Body)) > r.Length) {
				t.Fatalf("accepted %q as %+v", payload, r)
			}
			fields = append(fields, r.Header...)
		}
		if r, err := mesh.DecodeStreamed(bytes.Clone(payload), false); err == nil && r.Status < 200 {
			t.Fatalf("accepted %q as %+v, which nobody asked for", payload, r)
		}
		if r, err := mesh.DecodeInterim(bytes.Clone(payload)); err == nil {
			if r.Status < 102 || r.Status > 199 || len(r.Body) > 0 || r.Header.Has("Content-Length") {
				t.Fatalf("accepted %q as interim %+v", payload, r)
			}
			fields = append(fields, r.Header...)
		}
		if r, err := mesh.DecodeHead(bytes.Clone(payload), noon); err == nil {
			if r.Length < -1 || r.Header.Has("Content-Length") || r.Header.Has("Transfer-Encoding") {
				t.Fatalf("accepted %q as %+v", payload, r)
			}
			fields = append(fields, r.Header...)
		}
		for _, fld := range fields {
			if strings.ContainsAny(fld.Name+fld.Value, "\r\n\x00") ||
				strings.HasPrefix(strings.ToLower(fld.Name), "millrace-") {
				t.Fatalf("field %q came through", fld)
			}
		}
	})
}

func BenchmarkAppendRequest(b *testing.B) {
	req, buf := sampleRequest(), make([]byte, 0, 8192)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := mesh.AppendRequest(buf, req, time.Second, "nonce"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeRequest(b *testing.B) {
	payload, _ := mesh.AppendRequest(nil, sampleRequest(), time.Second, "nonce")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := mesh.DecodeRequest(payload, noon); err != nil {
			b.Fatal(err)
		}
	}
}

// Checking eight bytes at once gives the same result as checking each byte, at every position of a value.
func TestFieldValuesMatchByteWiseCheck(t *testing.T) {
	for length := 1; length <= 17; length++ {
		for at := range length {
			for c := range 256 {
				value := bytes.Repeat([]byte{'a'}, length)
				value[at] = byte(c)
				reply := append(append([]byte("HTTP/1.1 200 OK\r\nX: \xffb"), value...), "b\r\n\r\n"...)
				_, err := mesh.DecodeResponse(reply, "GET")
				if want := c == '\t' || (c >= ' ' && c != 0x7f); (err == nil) != want {
					t.Fatalf("byte %#x at %d of %d: %v", c, at, length, err)
				}
			}
		}
	}
}
