//go:build system

package main_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestExpress sends each request of the table to an Express application twice, directly and through millrace proxy,
// with the same bytes, and compares the responses.
func TestExpress(t *testing.T) { testExpress(t) }

// TestExpressCached does the same with every route cached as the application allows. Except for Age and Cache-Status
// the responses don't change, whether they come from the application or the cache.
func TestExpressCached(t *testing.T) { testExpress(t, "--cache", "true") }

func testExpress(t *testing.T, flags ...string) {
	t.Helper()
	app := start(t, "testdata/express", []string{"NODE_ENV=test"}, "node", "app.js")
	port := app.find(t, `(?m)^(\d+)$`)
	args := append([]string{"proxy", "http://127.0.0.1:" + port, "--listen", "127.0.0.1:0"}, flags...)
	proxy := start(t, "", nil, build(t, "./embedded/millrace"), args...)
	edge := proxy.find(t, `edge +http://(\S+)`)
	cases := expressCases()
	if len(cases) < 120 {
		t.Fatalf("only %d requests", len(cases))
	}

	direct := make([]*answer, len(cases)) // nil where the responses already differ
	app1, millrace := &client{addr: "127.0.0.1:" + port}, &client{addr: edge}
	defer app1.close()
	defer millrace.close()
	for i, c := range cases {
		t.Run(c.name(), func(t *testing.T) {
			if own, ok := ownAnswer(c); ok && slices.Contains(flags, "--cache") {
				if a := millrace.ask(t, c); a == nil || a.status != own {
					t.Errorf("the cache's own answer is %+v, want %d", a, own)
				}
				return
			}
			if a := app1.ask(t, c); compare(t, c, a, millrace.ask(t, c)) {
				direct[i] = a
			}
		})
	}
	t.Run("eight at once", func(t *testing.T) {
		var workers sync.WaitGroup
		for w := range 8 {
			workers.Go(func() {
				own := &client{addr: edge}
				defer own.close()
				for k := range cases {
					i := (k + w*len(cases)/8) % len(cases) // each worker begins at another case
					if direct[i] != nil {
						compare(t, cases[i], direct[i], own.ask(t, cases[i]))
					}
				}
			})
		}
		workers.Wait()
	})
	t.Logf("%d requests", len(cases))
}

// ownAnswer returns the status where the cache may answer differently from the application.
func ownAnswer(c exchange) (status int, ok bool) {
	fields := strings.Join(c.fields, "; ")
	switch c.target {
	case "/echo/browser":
		return 200, true // Accept-Encoding reaches the application in one spelling
	case "/echo/fields":
		return 200, strings.Contains(fields, "X_Under") // a field outside the key that CGI would read as another
	case "/echo/auth":
		return 206, strings.Contains(fields, "Range: bytes=0-1") // Express serves no ranges of generated responses
	case "/modified", "/static/app.js":
		// without Last-Modified beside an ETag (RFC 9110 §15.4.5)
		return 304, strings.Contains(fields, "If-Modified-Since: Wed, 01 Jan 2020") || strings.Contains(fields, "2100")
	case "/file":
		switch {
		case strings.Contains(fields, "If-Match"), strings.Contains(fields, "If-Unmodified-Since"):
			return 200, true // conditions for the origin: no reason to bypass a cache (RFC 9110 §13.1.1, §13.1.4)
		case c.method == "HEAD":
			return 200, strings.Contains(fields, "Range:") // ranges are for GET only (RFC 9110 §14.2)
		case strings.Contains(fields, "If-None-Match: *"):
			return 304, true // see above
		case strings.Contains(fields, "bytes=0-1,5-6"):
			return 206, true // several ranges, which Express doesn't serve
		case strings.Contains(fields, "bytes=9999999-"):
			return 416, true // without Express's page
		}
	}
	return 0, false
}

// exchange is one request, and how its response may differ.
type exchange struct {
	method, target string
	version        string   // 1.1 unless set
	fields         []string // "Name: value", as they are sent after Host
	body           string
	chunked        bool // the body is sent in chunks
	expect         bool // the body is sent after 100 Continue

	seen string   // the target that the application gets from Millrace, if it isn't target, and
	why  string   // why it isn't
	lost []string // request fields that Millrace keeps for itself
}

func (c exchange) name() string {
	name := c.method + " " + c.target
	if len(name) > 60 {
		name = name[:60]
	}
	if len(c.fields) > 0 {
		name += fmt.Sprintf(" %.40s", c.fields[len(c.fields)-1])
	}
	return strings.ReplaceAll(name, "/", "∕") // t.Run splits at slashes
}

// message returns the request as it is sent: head and body.
func (c exchange) message() (head, body string) {
	version := c.version
	if version == "" {
		version = "1.1"
	}
	lines := append([]string{c.method + " " + c.target + " HTTP/" + version, "Host: shop.example"}, c.fields...)
	head = strings.Join(lines, "\r\n") + "\r\n"
	switch {
	case c.expect:
		head += "Expect: 100-continue\r\nContent-Length: " + strconv.Itoa(len(c.body)) + "\r\n"
		return head + "\r\n", c.body
	case c.chunked:
		head += "Transfer-Encoding: chunked\r\n"
		var chunks strings.Builder
		for part := range slices.Chunk([]byte(c.body), 1000) {
			fmt.Fprintf(&chunks, "%x\r\n%s\r\n", len(part), part)
		}
		return head + "\r\n", chunks.String() + "0\r\n\r\n"
	case c.body != "" || c.method == "POST" || c.method == "PUT" || c.method == "PATCH":
		head += "Content-Length: " + strconv.Itoa(len(c.body)) + "\r\n"
	}
	return head + "\r\n", c.body
}

// answer is a response. Field names are in canonical case. The values of one name keep their order.
type answer struct {
	status  int
	fields  http.Header
	chunked bool
	body    []byte
}

// client keeps one connection, so that a response with wrong framing corrupts the next one and is noticed.
type client struct {
	addr string
	conn net.Conn
	r    *bufio.Reader
}

func (c *client) close() {
	if c.conn != nil {
		_ = c.conn.Close() // it isn't used any more
		c.conn = nil
	}
}

// ask sends the request and reads the response. nil means that there was none, and the test has failed.
func (c *client) ask(t *testing.T, x exchange) *answer {
	t.Helper()
	a, err := c.try(x)
	if err != nil {
		t.Errorf("%s %s of %s: %v", x.method, x.target, c.addr, err)
		c.close()
		return nil
	}
	return a
}

func (c *client) try(x exchange) (*answer, error) {
	if c.conn == nil {
		conn, err := net.Dial("tcp", c.addr)
		if err != nil {
			return nil, err
		}
		c.conn, c.r = conn, bufio.NewReaderSize(conn, 64<<10)
	}
	if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	head, body := x.message()
	if x.expect {
		if _, err := io.WriteString(c.conn, head); err != nil {
			return nil, err
		}
		interim, err := c.read(x.method)
		if err != nil {
			return nil, err
		}
		defer interim.Body.Close()
		if interim.StatusCode != http.StatusContinue {
			return nil, fmt.Errorf("%s instead of 100 Continue", interim.Status)
		}
		head = ""
	}
	if _, err := io.WriteString(c.conn, head+body); err != nil {
		return nil, err
	}
	return c.answer(x.method)
}

func (c *client) read(method string) (*http.Response, error) {
	return http.ReadResponse(c.r, &http.Request{Method: method})
}

// answer reads the final response. Interim ones (1xx) may come before it.
func (c *client) answer(method string) (*answer, error) {
	resp, err := c.read(method)
	for err == nil && resp.StatusCode < 200 {
		resp, err = c.read(method)
	}
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	a := &answer{status: resp.StatusCode, fields: resp.Header, chunked: len(resp.TransferEncoding) > 0}
	if a.body, err = io.ReadAll(resp.Body); err != nil {
		return nil, err
	}
	if n := c.r.Buffered(); n > 0 {
		return nil, fmt.Errorf("%d bytes after the answer", n)
	}
	if resp.Close {
		c.close()
	}
	return a, nil
}

// allowed are the response fields that have their own rules of comparison, with the reasons.
var allowed = map[string]string{
	"Connection":        "belongs to one connection (RFC 9110 §7.6.1)",
	"Keep-Alive":        "belongs to one connection (RFC 9110 §7.6.1)",
	"Transfer-Encoding": "framing of one connection: sameFraming compares it",
	"Content-Length":    "framing: sameFraming compares it",
	"Date":              "the answers were made at two moments: sameDate compares it",
	"X-Request-Id":      "the edge names each request: sameID compares it",
	"Cache-Status":      "the cache says what it did (RFC 9211); other tests read it",
	"Age":               "of what comes from the cache (RFC 9111 §5.1)",
	"Ratelimit":         "a limit says what is left of it; TestExpressLimit reads it",
	"Ratelimit-Policy":  "likewise",
}

// compare fails the test for every difference between the responses, and reports whether there was none.
func compare(t *testing.T, c exchange, direct, through *answer) bool {
	t.Helper()
	if direct == nil || through == nil {
		return false // reported already
	}
	var diff []string
	report := func(what string, direct, through any) {
		diff = append(diff, fmt.Sprintf("  %s:\n    direct           %.500v\n    through Millrace %.500v", what, direct,
			through))
	}
	if direct.status != through.status {
		report("status", direct.status, through.status)
	}
	for _, name := range names(direct.fields, through.fields) {
		if _, special := allowed[name]; !special && !slices.Equal(direct.fields[name], through.fields[name]) {
			report(name, quoted(direct.fields[name]), quoted(through.fields[name]))
		}
	}
	sameFraming(c, direct, through, report)
	sameDate(direct, through, report)
	sameID(through, report)
	if isEcho(direct) {
		sameEcho(c, direct, through, report)
	} else if !bytes.Equal(direct.body, through.body) {
		at := 0
		for at < min(len(direct.body), len(through.body)) && direct.body[at] == through.body[at] {
			at++
		}
		report(fmt.Sprintf("body, from byte %d", at), quoted([]string{string(direct.body[at:])}),
			quoted([]string{string(through.body[at:])}))
	}
	if len(diff) > 0 {
		t.Errorf("%s %.200s %.200q\n%s", c.method, c.target, c.fields, strings.Join(diff, "\n"))
	}
	return len(diff) == 0
}

type reporter func(what string, direct, through any)

func names(headers ...http.Header) []string {
	var all []string
	for _, h := range headers {
		for name := range h {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func quoted(values []string) string {
	if values == nil {
		return "absent"
	}
	return fmt.Sprintf("%.400q", values)
}

// sameFraming allows one difference: a body that the application sends in chunks, or until it closes the connection,
// may come from Millrace with its length.
func sameFraming(c exchange, direct, through *answer, report reporter) {
	before, after := direct.fields["Content-Length"], through.fields["Content-Length"]
	bodyless := c.method == "HEAD" || direct.status == 204 || direct.status == 304
	switch {
	case isEcho(direct): // its length depends on the echoed fields; ReadResponse has checked it
	case !bodyless && before == nil && slices.Equal(after, []string{strconv.Itoa(len(direct.body))}):
	case !bodyless && before == nil && after == nil && through.chunked:
	case !slices.Equal(before, after):
		report("Content-Length", quoted(before), quoted(after))
	}
}

// sameDate allows the seconds between the two requests, and a Date where the application sends none: RFC 9110 §6.6.1
// wants a proxy to add it.
func sameDate(direct, through *answer, report reporter) {
	before, after := direct.fields["Date"], through.fields["Date"]
	if len(after) == 1 && len(before) < 2 {
		when, err := http.ParseTime(after[0])
		base := time.Now()
		if len(before) == 1 {
			base, _ = http.ParseTime(before[0])
		}
		if err == nil && when.Sub(base).Abs() < time.Minute {
			return
		}
	}
	report("Date", quoted(before), quoted(after))
}

func sameID(through *answer, report reporter) {
	if id := through.fields["X-Request-Id"]; len(id) != 1 || len(id[0]) != 32 {
		report("X-Request-Id", "any", quoted(id))
	}
}

// echo is the request as the application saw it.
type echo struct {
	Method, OriginalURL, Protocol, Hostname string
	Query                                   json.RawMessage
	RawHeaders                              []string // names and values in turn
	Length                                  int
	SHA256                                  string
}

func isEcho(a *answer) bool { return bytes.Contains(a.body, []byte(`"rawHeaders":[`)) }

// added are the request fields that the edge sets itself, replacing the client's.
var added = []string{"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Traceparent", "X-Request-Id"}

// ourVia is the edge's entry in Via: the received version, and the node's id.
var ourVia = regexp.MustCompile(`1\.[01] millrace-[a-z2-7]{26}$`)

// sameEcho compares what the application saw. Everything must be the same, including order and spelling of fields,
// except fields that the edge adds, hop-by-hop fields, and the target and fields that the exchange names.
func sameEcho(c exchange, direct, through *answer, report reporter) {
	var before, after echo
	if err := json.Unmarshal(direct.body, &before); err != nil {
		report("echo", err, "")
		return
	}
	if err := json.Unmarshal(through.body, &after); err != nil {
		report("echo", "", err)
		return
	}
	if c.seen != "" {
		before.OriginalURL = c.seen
	}
	for _, name := range added {
		if n := len(valuesOf(after.RawHeaders, name)); n != 1 {
			report("seen "+name, "1 of them", n)
		}
	}
	if via := valuesOf(after.RawHeaders, "Via"); len(via) == 0 || !ourVia.MatchString(via[len(via)-1]) {
		report("seen Via", "the last is 1.1 millrace-ID", via)
	}
	sameLength(before, after, report)
	own := append([]string{"Connection", "Keep-Alive", "Content-Length", "Transfer-Encoding"}, c.lost...)
	was, is := without(before.RawHeaders, append(own, added...)), without(after.RawHeaders, append(own, added...))
	is = slices.DeleteFunc(is, func(f string) bool { return strings.HasPrefix(f, "Via: ") && ourVia.MatchString(f) })
	if !slices.Equal(was, is) {
		report("seen fields", quoted(was), quoted(is))
	}
	for _, name := range c.lost {
		if v := valuesOf(after.RawHeaders, name); v != nil && !slices.ContainsFunc(added, func(a string) bool {
			return strings.EqualFold(a, name)
		}) {
			report("seen "+name, "to be kept by Millrace", v)
		}
	}
	before.RawHeaders, after.RawHeaders = nil, nil
	if was, is := fmt.Sprintf("%+v", printable(before)), fmt.Sprintf("%+v", printable(after)); was != is {
		report("seen", was, is)
	}
}

func printable(e echo) []string {
	return []string{e.Method, e.OriginalURL, e.Protocol, e.Hostname, string(e.Query), strconv.Itoa(e.Length), e.SHA256}
}

// sameLength compares the framing of the request. A length stays, and a chunked body now has one. No length and length
// 0 mean the same where a method has no body (RFC 9112 §6.3).
func sameLength(before, after echo, report reporter) {
	was, is := valuesOf(before.RawHeaders, "Content-Length"), valuesOf(after.RawHeaders, "Content-Length")
	chunked := valuesOf(before.RawHeaders, "Transfer-Encoding") != nil
	switch {
	case slices.Equal(was, is):
	case chunked && slices.Equal(is, []string{strconv.Itoa(before.Length)}):
	case chunked && before.Length == 0 && is == nil:
	default:
		report("seen Content-Length", quoted(was), quoted(is))
	}
}

// valuesOf returns the values of a field in a list of names and values.
func valuesOf(raw []string, name string) (values []string) {
	for pair := range slices.Chunk(raw, 2) {
		if strings.EqualFold(pair[0], name) {
			values = append(values, pair[1])
		}
	}
	return values
}

// without returns all fields except the named ones, as they are written.
func without(raw, drop []string) (fields []string) {
	for pair := range slices.Chunk(raw, 2) {
		if !slices.ContainsFunc(drop, func(d string) bool { return strings.EqualFold(d, pair[0]) }) {
			fields = append(fields, pair[0]+": "+pair[1])
		}
	}
	return fields
}
