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
)

// head is a parsed response head.
type head struct {
	status int
	http10 bool
	reason string // if it isn't the usual one
	fields mesh.Header
}

var (
	crlf     = []byte("\r\n")
	headEnd  = []byte("\r\n\r\n")
	lfEnd    = []byte("\n\n")
	protocol = []byte("HTTP/1.")
)

// head reads status line and fields into memory of their own, which the response keeps.
func (c *conn) readHead() (head, error) {
	own, err := c.readSection()
	if err != nil {
		return head{}, err
	}
	line, rest, _ := bytes.Cut(own, crlf)
	var h head
	if err := h.parseLine(line); err != nil {
		return head{}, err
	}
	switch h.fields, _, err = parseFields(rest); {
	case err == nil:
		return h, nil
	case bareLF(own):
		return head{}, errMixed
	}
	return head{}, fmt.Errorf("%w: %w", errBroken, err)
}

// section gives a copy of the next head, through its empty line. The end of the status line says how all lines end. A
// target may end them in LF alone (RFC 9112 §2.2), but not some of them: where LF stands between lines that end in
// CRLF, somebody may have put it into a field's value, to forge the lines behind it. What can't become a head any more
// is refused before more of it comes.
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

// mixed reports whether lines end otherwise than the first one does.
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

// withCR gives a copy of a head whose lines end in LF alone, as it would be with CRLF.
func withCR(p []byte) ([]byte, error) {
	if mixed(p, true) {
		return nil, errMixed
	}
	return bytes.ReplaceAll(p, []byte("\n"), crlf), nil
}

// parseLine reads "HTTP/1.x SP 3DIGIT [SP reason]" (RFC 9112 §4). A minor version that isn't known counts as 1.1 (RFC
// 9110 §2.5).
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

// parseFields reads the field lines of a head or a trailer section through the empty line, and gives what follows. What
// RFC 9112 §5 has gateways mend in responses is mended.
func parseFields(block []byte) (mesh.Header, []byte, error) {
	fields, rest, err := mesh.ParseFields(block)
	if errors.Is(err, mesh.ErrFieldLine) {
		return mesh.ParseFields(normalizeFields(block)) //nolint:wrapcheck // it says all
	}
	return fields, rest, err //nolint:wrapcheck // likewise
}

// mended gives a copy of field lines without white space before their colons (RFC 9112 §5.1), and with folded lines
// joined (RFC 9112 §5.2). What it can't make out it leaves as it is.
func normalizeFields(block []byte) []byte {
	out := make([]byte, 0, len(block))
	for {
		line, rest, found := bytes.Cut(block, crlf)
		if !found || len(line) == 0 {
			return append(out, block...)
		}
		block = rest
		if blank(line[0]) && len(out) > 0 { // it goes on with the line before
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

// keepAlive reports whether the target will take another request on the connection, and for how long it may rest.
func (c *conn) keepAlive(h head) bool {
	connection := strings.ToLower(strings.Join(h.fields.Values("Connection"), ","))
	if strings.Contains(connection, "close") || (h.http10 && !strings.Contains(connection, "keep-alive")) {
		return false
	}
	if _, value, ok := strings.Cut(h.fields.Get("Keep-Alive"), "timeout="); ok {
		seconds, _, _ := strings.Cut(value, ",")
		if n, err := strconv.Atoi(strings.TrimSpace(seconds)); err == nil {
			// a second early: the target's clock runs too
			c.idle = min(idleTimeout, time.Duration(n)*time.Second-time.Second)
		}
	}
	return c.idle > 0
}
