package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"millrace/mesh"
	"millrace/node/http1"
)

// head is a parsed response head.
type head struct {
	status int
	http10 bool
	reason string // empty if it is the usual one
	fields mesh.Header
}

var (
	crlf     = []byte("\r\n")
	headEnd  = []byte("\r\n\r\n")
	lfEnd    = []byte("\n\n")
	protocol = []byte("HTTP/1.")
)

// readHead reads status line and fields into new memory, which the response keeps.
func (c *conn) readHead() (head, error) {
	section, err := c.readSection()
	if err != nil {
		return head{}, err
	}
	line, rest, _ := bytes.Cut(section, crlf)
	var h head
	if err := h.parseLine(line); err != nil {
		return head{}, err
	}
	switch h.fields, _, err = parseFields(rest); {
	case err == nil:
		return h, nil
	case bareLF(section):
		return head{}, errMixed
	}
	return head{}, fmt.Errorf("%w: %w", errBroken, err)
}

// readSection returns a copy of the next head, through its empty line. The end of the status line says how all lines
// end.
//
// A target may end lines in LF alone (RFC 9112 §2.2), but only all of them. An LF among lines that end in CRLF may come
// from a field value in which somebody wants to forge the lines after it. Input that can't become a valid head is
// refused before more is read.
func (c *conn) readSection() ([]byte, error) {
	searched := 0
	for {
		p := c.buf[c.r:c.w]
		if n := min(len(p), len(protocol)); !bytes.Equal(p[:n], protocol[:n]) {
			return nil, fmt.Errorf("%w: it doesn't begin with HTTP/1.1", errBroken)
		}
		first := bytes.IndexByte(p, '\n')
		bare := first >= 0 && p[first-1] != '\r'
		end := headEnd
		if bare {
			end = lfEnd
		}
		if i := bytes.Index(p[searched:], end); i >= 0 {
			n := searched + i + len(end)
			c.r += n
			if bare {
				return withCR(p[:n])
			}
			return bytes.Clone(p[:n]), nil
		}
		if mixed(p, bare) {
			return nil, errMixed
		}
		searched = max(len(p)-len(end)+1, 0)
		if err := c.fill(maxHead); err != nil {
			return nil, c.markNoAnswer(err)
		}
	}
}

var errMixed = fmt.Errorf("%w: some lines of its head end in LF alone", errBroken)

// mixed reports whether lines of p end differently from the first line. bare means that it ends in LF alone.
func mixed(p []byte, bare bool) bool {
	if bare {
		return bytes.IndexByte(p, '\r') >= 0
	}
	return bareLF(p)
}

func bareLF(p []byte) bool {
	for at := 0; ; {
		i := bytes.IndexByte(p[at:], '\n')
		if i < 0 {
			return false
		}
		if at += i; at == 0 || p[at-1] != '\r' {
			return true
		}
		at++
	}
}

// withCR returns a copy of a head whose lines end in LF alone, with CRLF instead.
func withCR(p []byte) ([]byte, error) {
	if mixed(p, true) {
		return nil, errMixed
	}
	return bytes.ReplaceAll(p, []byte("\n"), crlf), nil
}

// parseLine parses "HTTP/1.x SP 3DIGIT [SP reason]" (RFC 9112 §4). An unknown minor version counts as 1.1 (RFC 9110
// §2.5).
func (h *head) parseLine(line []byte) error {
	const before, through = len("HTTP/1.1 "), len("HTTP/1.1 200")
	if len(line) < through || !bytes.HasPrefix(line, protocol) || line[7] < '0' || line[7] > '9' || line[8] != ' ' ||
		(len(line) > through && line[through] != ' ') {
		return fmt.Errorf("%w: status line", errBroken)
	}
	status, err := strconv.ParseUint(string(line[before:through]), 10, 16)
	if err != nil || status < 100 || status > 599 {
		return fmt.Errorf("%w: status", errBroken)
	}
	h.status, h.http10 = int(status), line[7] == '0'
	if len(line) > through && string(line[through+1:]) != http.StatusText(h.status) {
		h.reason = string(line[through+1:])
	}
	return nil
}

// parseFields parses the field lines of a head or a trailer section through the empty line, and returns what follows.
// It repairs what gateways must repair in responses (RFC 9112 §5).
func parseFields(block []byte) (mesh.Header, []byte, error) {
	fields, rest, err := http1.ParseFields(block)
	if errors.Is(err, http1.ErrFieldLine) {
		return http1.ParseFields(normalizeFields(block))
	}
	return fields, rest, err
}

// normalizeFields returns a copy of field lines without white space before their colons (RFC 9112 §5.1) and with folded
// lines joined (RFC 9112 §5.2). What it doesn't recognize it leaves unchanged.
func normalizeFields(block []byte) []byte {
	out := make([]byte, 0, len(block))
	for {
		line, rest, found := bytes.Cut(block, crlf)
		if !found || len(line) == 0 {
			return append(out, block...)
		}
		block = rest
		if blank(line[0]) && len(out) > 0 { // continuation of the line before
			out = append(bytes.TrimRight(out[:len(out)-len(crlf)], " \t"), ' ')
			line = bytes.TrimLeft(line, " \t")
		} else if name, value, ok := bytes.Cut(line, []byte(":")); ok {
			out = append(append(out, bytes.TrimRight(name, " \t")...), ':')
			line = value
		}
		out = append(append(out, line...), crlf...)
	}
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

// keepAlive reports whether the target accepts another request on the connection, and sets how long it may stay idle.
func (c *conn) keepAlive(h head) bool {
	connection := strings.ToLower(strings.Join(h.fields.Values("Connection"), ","))
	if strings.Contains(connection, "close") || (h.http10 && !strings.Contains(connection, "keep-alive")) {
		return false
	}
	if _, value, ok := strings.Cut(h.fields.Get("Keep-Alive"), "timeout="); ok {
		seconds, _, _ := strings.Cut(value, ",")
		if n, err := strconv.Atoi(strings.TrimSpace(seconds)); err == nil {
			// A second early, since the target's time runs too.
			c.idle = min(idleTimeout, time.Duration(n)*time.Second-time.Second)
		}
	}
	return c.idle > 0
}
