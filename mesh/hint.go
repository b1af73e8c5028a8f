package mesh

import (
	"bytes"
	"encoding/json"
)

// replyHint returns what the author of a member should change about an invalid reply, or "" if that isn't clear. It
// reveals nothing of the reply.
func replyHint(payload []byte) string {
	start := bytes.TrimLeft(payload, " \t\r\n")
	switch {
	case len(start) == 0:
		return `it is empty: begin a reply with a status line and an empty line, "HTTP/1.1 200 OK\r\n\r\n"`
	case bytes.HasPrefix(payload, []byte("HTTP/1.")):
		return headHint(payload)
	case (start[0] == '{' || start[0] == '[' || start[0] == '"') && json.Valid(payload):
		return `it is JSON without an HTTP head: put "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" before it`
	}
	return `it has no HTTP head: put "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n" before the body`
}

// headHint examines a head whose status line begins correctly.
func headHint(payload []byte) string {
	for rest := payload; ; {
		eol := bytes.IndexByte(rest, '\n')
		switch {
		case eol < 0:
			return `its head has no end: after the last header field comes an empty line, "\r\n\r\n"`
		case eol == 0 || rest[eol-1] != '\r':
			return `lines of its head end in LF alone: end each with CRLF, which is "\r\n" in most languages`
		case eol == 1:
			return "" // the head ends correctly: something else is wrong
		}
		rest = rest[eol+1:]
	}
}
