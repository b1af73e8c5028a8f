package guard_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"millrace/edge/guard"
	"millrace/node"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var limits = guard.Limits{
	MaxConnections: 10, MaxPerClient: 10, MaxHeader: 32 << 10, ReadTimeout: 5 * time.Second,
	IdleTimeout: 20 * time.Second,
}

// wire is a connection whose client has sent everything and ended its side.
type wire struct {
	net.Conn
	in  *bytes.Reader
	out bytes.Buffer
	per int // bytes that a read gives at most; 0 means all
}

func (w *wire) RemoteAddr() net.Addr { return nil }

func (w *wire) Read(p []byte) (int, error) {
	if w.per > 0 && len(p) > w.per {
		p = p[:w.per]
	}
	return w.in.Read(p)
}
func (w *wire) Write(p []byte) (int, error)      { return w.out.Write(p) }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }
func (w *wire) Close() error                     { return nil }

func wrap(inner net.Conn, limits guard.Limits, budget *guard.Budget) *guard.Conn {
	return guard.New(nil, guard.Config{Limits: limits, Budget: budget}).Wrap(inner)
}

// got is what became of one request.
type got struct {
	*guard.Request
	body string
	err  error
}

// read serves the bytes as a server would, body limit 1 MiB.
func read(t *testing.T, sent string, per int) (all []got, reply string) {
	t.Helper()
	w := &wire{in: bytes.NewReader([]byte(sent)), per: per}
	budget := guard.NewBudget(64 << 20)
	c := wrap(w, limits, budget)
	for {
		if err := announcement(c); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		g := got{Request: c.Request()}
		if g.Refusal == nil {
			var body []byte
			body, g.err = c.ReadBody(1 << 20)
			g.body = string(body)
		}
		all = append(all, g)
		if !c.Keepable() {
			break
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if used := budget.Used(); used != 0 {
		t.Errorf("%d bytes of the budget were never given back", used)
	}
	return all, w.out.String()
}

// announcement reads what fasthttp would get to see.
func announcement(c *guard.Conn) error {
	var head []byte
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		p := make([]byte, 7)
		n, err := c.Read(p)
		if err != nil {
			return err
		}
		head = append(head, p[:n]...)
	}
	return nil
}

const start = "POST /p HTTP/1.1\r\nHost: h\r\n"

func TestAccepted(t *testing.T) {
	for name, c := range map[string]struct {
		sent   string
		bodies []string
	}{
		"no body": {"GET / HTTP/1.1\r\nHost: h\r\n\r\n", []string{""}},
		"length":  {start + "Content-Length: 3\r\n\r\nabc", []string{"abc"}},
		"chunks": {
			start + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n",
			[]string{"abc0123456789"},
		},
		"extension": {
			start + "Transfer-Encoding: CHUNKED\r\n\r\n3 ;a=\"b\"\r\nabc\r\n0;x\r\n\r\n",
			[]string{"abc"},
		},
		"trailers": {start +
			"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\nHost: evil\r\n\r\n", []string{"abc"}},
		"pipelined": {"GET / HTTP/1.1\r\nHost: h\r\n\r\n" + start +
			"Content-Length: 2\r\n\r\nhiGET / HTTP/1.1\r\nHost: h\r\n\r\n", []string{"", "hi", ""}},
		"equal lengths":       {start + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", []string{"abc"}},
		"later minor version": {"GET / HTTP/1.7\r\nHost: h\r\n\r\n", []string{""}},
		"several empty lines": {"\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", []string{""}},
		"empty line": {
			"\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
			[]string{"", ""},
		},
		"body on GET": {"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 37\r\n\r\nGET /smuggled HTTP/1.1\r\n" +
			"Host: h\r\n\r\n\r\n", []string{"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n\r\n"}},
		"close": {"GET / HTTP/1.1\r\nHost: h\r\nConnection: x, close\r\n\r\nGET / HTTP/1.1\r\n" +
			"Host: h\r\n\r\n", []string{""}},
		"HTTP/1.0": {"GET / HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n", []string{""}},
		"HTTP/1.0 kept": {
			"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\nGET / HTTP/1.0\r\n\r\n",
			[]string{"", ""},
		},
		"large body": {
			start + "Content-Length: 100000\r\n\r\n" + strings.Repeat("x", 100000),
			[]string{strings.Repeat("x", 100000)},
		},
		"8 kB of cookies": {
			"GET / HTTP/1.1\r\nHost: h\r\nCookie: " + strings.Repeat("a", 8192) + "\r\n\r\n",
			[]string{""},
		},
		"unusual method, target": {"M-SEARCH * HTTP/1.1\r\nHost: h\r\n\r\n", []string{""}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, per := range []int{0, 1, 3, 1000} {
				all, _ := read(t, c.sent, per)
				if len(all) != len(c.bodies) {
					t.Fatalf("%d requests, want %d, %d bytes a read", len(all), len(c.bodies), per)
				}
				for i, g := range all {
					if g.Refusal != nil || g.err != nil || g.body != c.bodies[i] {
						t.Errorf("request %d, %d bytes a read: refusal %v, error %v, body %.40q", i, per, g.Refusal,
							g.err, g.body)
					}
				}
			}
		})
	}
}

func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		sent string
		code node.Code
	}{
		"bare LF":               {"GET / HTTP/1.1\nHost: h\n\n", node.CodeInvalid},
		"bare LF in the fields": {"GET / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n", node.CodeInvalid},
		"two spaces":            {"GET  / HTTP/1.1\r\nHost: h\r\n\r\n", node.CodeInvalid},
		"space in the target":   {"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", node.CodeInvalid},
		"8-bit target":          {"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n", node.CodeInvalid},
		"version":               {"GET / HTTP/2.1\r\nHost: h\r\n\r\n", node.CodeInvalid},
		"no version":            {"GET /\r\n\r\n", node.CodeInvalid},
		"TLS":                   {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", node.CodeInvalid},
		"long target": {
			"GET /" + strings.Repeat("a", 9000) + " HTTP/1.1\r\nHost: h\r\n\r\n",
			node.CodeURITooLong,
		},
		"endless target": {"GET /" + strings.Repeat("a", 64<<10), node.CodeURITooLong},
		"endless field":  {"GET / HTTP/1.1\r\nX: " + strings.Repeat("a", 64<<10), node.CodeHeaderTooLarge},
		"many fields": {
			"GET / HTTP/1.1\r\nHost: h\r\n" + strings.Repeat("X: y\r\n", 300) + "\r\n",
			node.CodeHeaderTooLarge,
		},
		"space before colon":     {start + "Content-Length : 3\r\n\r\nabc", node.CodeInvalid},
		"folding":                {start + "X: a\r\n b\r\n\r\n", node.CodeInvalid},
		"two lengths":            {start + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", node.CodeInvalid},
		"one length in two ways": {start + "Content-Length: 3\r\nContent-Length: 03\r\n\r\nabc", node.CodeInvalid},
		"too many empty lines":   {strings.Repeat("\r\n", 9) + "GET / HTTP/1.1\r\nHost: h\r\n\r\n", node.CodeInvalid},
		"length list":            {start + "Content-Length: 3, 3\r\n\r\nabc", node.CodeInvalid},
		"signed length":          {start + "Content-Length: +3\r\n\r\nabc", node.CodeInvalid},
		"huge length":            {start + "Content-Length: 18446744073709551619\r\n\r\nabc", node.CodeInvalid},
		"length and coding": {
			start + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
			node.CodeInvalid,
		},
		"other coding": {
			start + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
			node.CodeNotImplemented,
		},
		"coding behind chunked": {start + "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", node.CodeInvalid},
		"chunked twice":         {start + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", node.CodeInvalid},
		"two codings": {
			start + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
			node.CodeInvalid,
		},
		"chunked in HTTP/1.0":    {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", node.CodeInvalid},
		"unknown expectation":    {start + "Expect: 200-ok\r\nContent-Length: 0\r\n\r\n", node.CodeExpectation},
		"refused, then followed": {"GET /\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", node.CodeInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			for _, per := range []int{0, 1, 1000} {
				all, _ := read(t, c.sent, per)
				if len(all) != 1 || all[0].Refusal == nil || all[0].Refusal.Code != c.code {
					t.Fatalf("%d bytes a read: %d requests, first %+v", per, len(all), all[0].Request)
				}
			}
		})
	}
}

func TestBrokenBodies(t *testing.T) {
	const chunked = start + "Transfer-Encoding: chunked\r\n\r\n"
	const next = "GET /next HTTP/1.1\r\nHost: h\r\n\r\n"
	for name, c := range map[string]struct {
		sent string
		code node.Code
	}{
		"short":     {start + "Content-Length: 4\r\n\r\nabc", node.CodeCanceled},
		"too large": {start + "Content-Length: 2000000\r\n\r\n" + next, node.CodeTooLarge},
		"chunks too large": {chunked + strings.Repeat("10000\r\n"+strings.Repeat("x", 65536)+"\r\n", 17) +
			"0\r\n\r\n", node.CodeTooLarge},
		"no size":           {chunked + "\r\nabc\r\n0\r\n\r\n" + next, node.CodeInvalid},
		"huge size":         {chunked + "10000000000000003\r\nabc\r\n0\r\n\r\n" + next, node.CodeInvalid},
		"size 0x3":          {chunked + "0x3\r\nabc\r\n0\r\n\r\n" + next, node.CodeInvalid},
		"space after size":  {chunked + "3 \r\nabc\r\n0\r\n\r\n" + next, node.CodeInvalid},
		"space before size": {chunked + " 3\r\nabc\r\n0\r\n\r\n" + next, node.CodeInvalid},
		"LF after size":     {chunked + "3\nabc\r\n0\r\n\r\n" + next, node.CodeInvalid},
		"LF in extension":   {chunked + "3;\nxx;abc\r\n0\r\n\r\n" + next, node.CodeInvalid},
		"CR in extension":   {chunked + "3;a\rb\r\nabc\r\n0\r\n\r\n" + next, node.CodeInvalid},
		"long extension": {
			chunked + "3;" + strings.Repeat("a", 65536) + "\r\nabc\r\n0\r\n\r\n" + next,
			node.CodeInvalid,
		},
		"many extensions": {chunked + strings.Repeat("1;"+strings.Repeat("a", 200)+"\r\nx\r\n", 100) +
			"0\r\n\r\n" + next, node.CodeInvalid},
		"data longer": {chunked + "3\r\nabcd\r\n0\r\n\r\n" + next, node.CodeInvalid},
		"bad trailer": {chunked + "0\r\nX T : v\r\n\r\n" + next, node.CodeInvalid},
		"LF trailer":  {chunked + "0\r\nX: v\n\r\n" + next, node.CodeInvalid},
		"5,000 trailers": {
			chunked + "0\r\n" + strings.Repeat("X: v\r\n", 5000) + "\r\n" + next,
			node.CodeInvalid,
		},
		"chunks never end":     {chunked + "3\r\nabc\r\n", node.CodeCanceled},
		"trailers never end":   {chunked + "0\r\nX: v\r\n", node.CodeCanceled},
		"last CRLF is missing": {chunked + "3\r\nabc\r\n0\r\n", node.CodeCanceled},
	} {
		t.Run(name, func(t *testing.T) {
			for _, per := range []int{0, 1, 1000} {
				all, _ := read(t, c.sent, per)
				if len(all) != 1 || all[0].Refusal != nil || node.CodeOf(all[0].err) != c.code {
					t.Fatalf("%d bytes a read: %d requests, refusal %v, error %v", per, len(all), all[0].Refusal,
						all[0].err)
				}
			}
		})
	}
}

// A body that the handler doesn't want is thrown away if it is small, and never taken for a request.
func TestUnreadBody(t *testing.T) {
	const next = "GET /next HTTP/1.1\r\nHost: h\r\n\r\n"
	for name, c := range map[string]struct {
		sent string
		want int
	}{
		"small":   {start + "Content-Length: 1000\r\n\r\n" + strings.Repeat("GET / ", 166) + "abcd" + next, 2},
		"chunked": {start + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" + next, 2},
		"large":   {start + "Content-Length: 100000\r\n\r\n" + strings.Repeat("x", 100000) + next, 1},
		"endless": {start + "Transfer-Encoding: chunked\r\n\r\n" +
			strings.Repeat("1000\r\n"+strings.Repeat("x", 4096)+"\r\n", 20) + "0\r\n\r\n" + next, 1},
		"malformed": {start + "Transfer-Encoding: chunked\r\n\r\nx\r\n" + next, 1},
		"expected":  {start + "Content-Length: 3\r\nExpect: 100-continue\r\n\r\n" + next, 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := &wire{in: bytes.NewReader([]byte(c.sent))}
			conn := wrap(w, limits, guard.NewBudget(1<<20))
			requests := 0
			for announcement(conn) == nil {
				requests++
				if !conn.Keepable() {
					break
				}
			}
			if requests != c.want {
				t.Errorf("%d requests, want %d", requests, c.want)
			}
		})
	}
}

// A request that comes during a pause is held back to its end and marked; one that comes later isn't.
func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := net.Pipe()
		conn := wrap(server, limits, guard.NewBudget(1<<20))
		conn.Stop()
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for _, after := range []time.Duration{0, 100 * time.Millisecond, 700 * time.Millisecond} {
				<-time.After(after)
				_, _ = io.WriteString(client, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
			}
		}()
		begin := time.Now()
		for i, want := range []struct {
			at    time.Duration
			hasty bool
		}{{0, false}, {500 * time.Millisecond, true}, {800 * time.Millisecond, false}} {
			if err := announcement(conn); err != nil {
				t.Fatal(err)
			}
			if r := conn.Request(); time.Since(begin) != want.at || r.Penalized != want.hasty {
				t.Errorf("request %d after %s, hasty %t", i, time.Since(begin), r.Penalized)
			}
			if i == 0 {
				conn.Penalize(500 * time.Millisecond)
			}
		}
		<-sent
		conn.Penalize(time.Hour) // Close ends a pause
		go func() { _, _ = io.WriteString(client, "GET / HTTP/1.1\r\nHost: h\r\n\r\n") }()
		ended := make(chan struct{})
		go func() { _ = announcement(conn); close(ended) }()
		synctest.Wait()
		_ = conn.Close()
		<-ended
		_ = client.Close()
	})
}

// 100 Continue is sent when the body is asked for and hasn't arrived, and only then.
func TestContinue(t *testing.T) {
	const expecting = start + "Expect: 100-Continue\r\nContent-Length: 3\r\n\r\n"
	if all, reply := read(t, expecting+"abc", 0); all[0].body != "abc" || reply != "" {
		t.Errorf("body was there: %q, reply %q", all[0].body, reply)
	}
	if all, reply := read(t, expecting+"abc", len(expecting)); all[0].body != "abc" ||
		reply != "HTTP/1.1 100 Continue\r\n\r\n" {
		t.Errorf("body came later: %q, reply %q", all[0].body, reply)
	}
	if all, reply := read(t, strings.Replace(expecting, ": 3", ": 3000000", 1),
		0); node.CodeOf(all[0].err) != node.CodeTooLarge || reply != "" {
		t.Errorf("body too large: %v, reply %q", all[0].err, reply)
	}
}

// A length that is only stated allocates nothing, and no more arrives than the budget holds.
func TestBudget(t *testing.T) {
	budget := guard.NewBudget(100 << 10)
	first := wrap(&wire{in: bytes.NewReader([]byte(start + "Content-Length: 80000\r\n\r\n" +
		strings.Repeat("x", 80000)))}, limits, budget)
	if err := announcement(first); err != nil {
		t.Fatal(err)
	}
	if budget.Used() != 0 {
		t.Errorf("%d bytes held for a head", budget.Used())
	}
	if _, err := first.ReadBody(1 << 20); err != nil {
		t.Fatal(err)
	}
	second := wrap(&wire{in: bytes.NewReader([]byte(start + "Content-Length: 80000\r\n\r\n" +
		strings.Repeat("x", 80000)))}, limits, budget)
	if err := announcement(second); err != nil {
		t.Fatal(err)
	}
	if _, err := second.ReadBody(1 << 20); node.CodeOf(err) != node.CodeBusy {
		t.Errorf("beyond the budget: %v", err)
	}
	if second.Keepable() {
		t.Error("a connection is kept though its body was left in the middle")
	}
	if first.Hold(50<<10) || !first.Hold(100) {
		t.Error("a response beyond the budget was held, or a small one not")
	}
	first.Close()
	second.Close()
	if budget.Used() != 0 {
		t.Errorf("%d bytes never given back", budget.Used())
	}
}

// Heads and bodies end at their time-outs, counted from their first byte; idle connections end silently.
func TestSlowClients(t *testing.T) {
	for name, c := range map[string]struct {
		sent    []string // every four seconds
		after   time.Duration
		refused bool
		body    node.Code
	}{
		"nothing at all": {nil, 5 * time.Second, false, ""},
		"slow head":      {[]string{"GET / HT", "TP/1.1\r\n", "Host: h\r\n"}, 5 * time.Second, true, ""},
		"slow body": {
			[]string{start + "Content-Length: 30\r\n\r\n", "abc", "def"},
			5 * time.Second, false,
			node.CodeSlowClient,
		},
		"idle after a request": {[]string{"GET / HTTP/1.1\r\nHost: h\r\n\r\n"}, 20 * time.Second, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, client := net.Pipe()
				defer client.Close()
				conn := wrap(server, limits, guard.NewBudget(1<<20))
				conn.Stop()
				sent := make(chan struct{})
				go func() {
					defer close(sent)
					for i, part := range c.sent {
						if i > 0 {
							<-time.After(4 * time.Second)
						}
						_, _ = io.WriteString(client, part)
					}
				}()
				begin := time.Now()
				var refusal *node.Error
				var code node.Code
				for announcement(conn) == nil {
					refusal = conn.Request().Refusal
					_, err := conn.ReadBody(100)
					code = node.CodeOf(err)
					if !conn.Keepable() {
						break
					}
				}
				if took := time.Since(begin); took != c.after {
					t.Errorf("ended after %s, want %s", took, c.after)
				}
				if (refusal != nil) != c.refused || code != c.body {
					t.Errorf("refusal %v, body %q", refusal, code)
				}
				_ = conn.Close()
				<-sent
			})
		})
	}
}
