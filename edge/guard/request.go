package guard

import (
	"bytes"
	"cmp"
	"strconv"
	"strings"
	"time"

	"millrace/node"
	"millrace/node/http1"
)

// MaxTarget is the maximum length of a request target in bytes; longer ones get 414.
const MaxTarget = 8 << 10

// Chunked is the Length of a body with chunked coding, whose size isn't known before its end.
const Chunked = -1

// Request is one request's head as received. Its strings remain valid for as long as they are used, except after
// Config.Short has answered the request: see Conn.Retain.
type Request struct {
	Method    string
	Target    string
	HTTP10    bool
	Header    node.Header // as received
	Length    int64       // of the body in bytes, or Chunked; 0 without a body
	Expect    bool        // the client waits for 100 Continue before it sends the body
	Close     bool        // the client wants the connection closed after the response
	Upgrade   bool        // Connection announces an Upgrade field (RFC 9110 §7.8)
	Arrived   time.Time   // when the head had arrived whole
	Penalized bool        // it arrived before the end of a penalty, and had to wait: see Conn.Penalize
	Refusal   *node.Error // why the request is refused, else nil; with it, other fields may be empty
}

var (
	errLine    = node.Errorf(node.CodeInvalid, nil, "the request line breaks RFC 9112 section 3")
	errVersion = node.Errorf(node.CodeInvalid, nil, "the request isn't HTTP/1.1 or HTTP/1.0")
	errCoding  = node.Errorf(node.CodeNotImplemented, nil,
		"the only transfer coding that is understood here is chunked")
	errFraming  = node.Errorf(node.CodeInvalid, nil, "the request's length is stated wrongly, or more than once")
	errLongLine = node.Errorf(node.CodeURITooLong, nil, "the request target is longer than 8 KiB")
	errExpect   = node.Errorf(node.CodeExpectation, nil, "the only expectation that is met here is 100-continue")
)

// parse parses a whole head, including its empty line, into r, which must be empty but for the capacity of Header. r's
// strings refer to head, which must not change while they are used.
func (r *Request) parse(head []byte) {
	eol := bytes.IndexByte(head, '\n')
	if eol < 1 || head[eol-1] != '\r' {
		r.Refusal = errLine
		return
	}
	if r.parseLine(head[:eol-1]); r.Refusal != nil {
		return
	}
	var err error
	if cap(r.Header) > 0 {
		r.Header, _, err = http1.AppendFields(r.Header[:0], head[eol+1:])
	} else {
		r.Header, _, err = http1.ParseFields(head[eol+1:])
	}
	if err != nil {
		r.Header, r.Refusal = nil, fieldsError(err)
		return
	}
	r.Refusal = r.frame()
}

func fieldsError(err error) *node.Error {
	if err == http1.ErrFieldCount { //nolint:errorlint // ParseFields returns it as it is
		return node.Errorf(node.CodeHeaderTooLarge, err, "the request has more than %d header fields", http1.MaxFields)
	}
	return node.Errorf(node.CodeInvalid, err, "the request's header fields are malformed: %s", err)
}

// parseLine parses "METHOD SP target SP HTTP/1.x" with single spaces.
func (r *Request) parseLine(line []byte) {
	method, rest, ok := bytes.Cut(line, []byte{' '})
	target, version, ok2 := bytes.Cut(rest, []byte{' '})
	switch {
	case !ok || !ok2 || !http1.ValidMethod(http1.UnsafeString(method)) || !visible(target):
		r.Refusal = errLine
		return
	case len(target) > MaxTarget:
		r.Method, r.Refusal = http1.UnsafeString(method), errLongLine
		return
	}
	r.Method, r.Target = http1.UnsafeString(method), http1.UnsafeString(target)
	minor, ok := bytes.CutPrefix(version, []byte("HTTP/1."))
	if !ok || len(minor) != 1 || minor[0] < '0' || minor[0] > '9' {
		r.Refusal = errVersion
		return
	}
	r.HTTP10 = minor[0] == '0' // a higher minor version is treated as 1.1 (RFC 9110 §2.5)
}

// visible reports whether a target has at least one byte, and only visible ASCII.
func visible(target []byte) bool {
	for _, c := range target {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return len(target) > 0
}

// frame determines the body's length and the connection options (RFC 9112 §6 and §9.6). A repeated length must be the
// same each time (RFC 9110 §8.6), so that it doesn't matter which line a reader takes. With Transfer-Encoding no length
// is allowed.
func (r *Request) frame() *node.Error {
	stated, keep := "", !r.HTTP10
	for i := range r.Header {
		f := &r.Header[i]
		switch {
		case is(f.Name, "Content-Length"):
			var ok bool
			if r.Length, ok = parseLength(f.Value); !ok || (stated != "" && stated != f.Value) {
				return errFraming
			}
			stated = f.Value
		case is(f.Name, "Transfer-Encoding"):
			if err := r.codings(f.Value); err != nil || stated != "" {
				return cmp.Or(err, errFraming)
			}
			stated, r.Length = "chunked", Chunked
		case is(f.Name, "Connection"):
			keep = r.connection(f.Value) || keep
		case is(f.Name, "Expect") && !r.HTTP10:
			if r.Expect = is(f.Value, "100-continue"); !r.Expect {
				return errExpect
			}
		}
	}
	r.Close = r.Close || !keep
	return nil
}

// codings parses a Transfer-Encoding: chunked, and nothing else. Other codings before a final chunked are valid, but
// aren't implemented (RFC 9112 §6.1).
func (r *Request) codings(value string) *node.Error {
	if r.HTTP10 {
		return errFraming
	}
	before, ok := strings.CutSuffix(strings.ToLower(value), "chunked")
	switch before = strings.TrimRight(before, " \t"); {
	case ok && before == "":
		return nil
	case ok && strings.HasSuffix(before, ",") && !strings.Contains(before, "chunked"):
		return errCoding
	}
	return errFraming
}

// connection parses a Connection field. A close in any of them wins (RFC 9112 §9.3).
func (r *Request) connection(value string) (keep bool) {
	for option := range strings.SplitSeq(value, ",") {
		switch option = strings.Trim(option, " \t"); {
		case is(option, "close"):
			r.Close = true
		case is(option, "keep-alive"):
			keep = true
		case is(option, "upgrade"):
			r.Upgrade = true
		}
	}
	return keep
}

// parseLength parses 1*DIGIT (RFC 9110 §8.6) of at most 18 digits. A body of a greater length couldn't be served.
func parseLength(s string) (int64, bool) {
	if len(s) == 0 || len(s) > 18 {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// is reports whether two names are equal, ignoring case.
func is(a, b string) bool { return len(a) == len(b) && strings.EqualFold(a, b) }
