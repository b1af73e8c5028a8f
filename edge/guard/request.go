package guard

import (
	"bytes"
	"cmp"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"millrace/node"
	"millrace/node/http1"
)

// MaxTarget bounds a request target in bytes (414).
const MaxTarget = 8 << 10

// Chunked is the Length of a body whose size only its end tells.
const Chunked = -1

// Request is one request as it stood in its head. Its strings stay valid for as long as anybody keeps them.
type Request struct {
	Method  string
	Target  string
	HTTP10  bool
	Header  node.Header // as received
	Length  int64       // of the body in bytes, or Chunked
	Expect  bool        // the client waits for 100 Continue before it sends the body
	Close   bool        // the client wants the connection closed after the response
	Upgrade bool        // Connection announces an Upgrade field (RFC 9110 §7.8)
	Arrived time.Time   // when the head was complete
	Hasty   bool        // it came during a pause and has waited for its end
	Refusal *node.Error // why the request isn't served; the other fields may be empty then
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

// parse reads a whole head, empty line included, into an empty request whose Header may have room. Its strings alias
// head, which must not change as long as they are used.
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

// parseLine reads "METHOD SP target SP HTTP/1.x" with single spaces.
func (r *Request) parseLine(line []byte) {
	method, rest, ok := bytes.Cut(line, []byte{' '})
	target, version, ok2 := bytes.Cut(rest, []byte{' '})
	switch {
	case !ok || !ok2 || !http1.ValidMethod(text(method)) || !visible(target):
		r.Refusal = errLine
		return
	case len(target) > MaxTarget:
		r.Method, r.Refusal = text(method), errLongLine
		return
	}
	r.Method, r.Target = text(method), text(target)
	minor, ok := bytes.CutPrefix(version, []byte("HTTP/1."))
	if !ok || len(minor) != 1 || minor[0] < '0' || minor[0] > '9' {
		r.Refusal = errVersion
		return
	}
	r.HTTP10 = minor[0] == '0' // a higher minor version is treated as 1.1 (RFC 9110 §2.5)
}

// visible reports whether a target has at least one byte, and visible ASCII only.
func visible(target []byte) bool {
	for _, c := range target {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return len(target) > 0
}

// frame finds out how long the body is and what the connection is for (RFC 9112 §6 and §9.6). A length that is repeated
// must be the same each time (RFC 9110 §8.6): whoever read another line of them has read the same. Beside
// Transfer-Encoding there may be none.
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

// codings reads a Transfer-Encoding: chunked, and nothing else. What ends in chunked is framed well, but decoding it
// isn't done here (RFC 9112 §6.1).
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

// connection reads a Connection field. A close in any of them wins (RFC 9112 §9.3).
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

// parseLength reads 1*DIGIT (RFC 9110 §8.6) of at most 18 digits: what is longer can't be served by anybody.
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

// is compares a name without regard to case.
func is(a, b string) bool { return len(a) == len(b) && strings.EqualFold(a, b) }

// text makes a string of bytes that nobody changes any more, without a copy.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
