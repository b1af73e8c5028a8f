package natsserver

import (
	"strconv"
	"strings"
	"unicode"
)

// Refusal is a member's subscription that the server refused.
type Refusal struct {
	Member  string // how the member shows itself: address, language, name; printable
	Subject string // as the member sent it
	Queue   string // likewise; empty if it subscribed in no queue group
}

// parseRefusal finds a refused subscription in the server's own message, the only place where it is told. Subject and
// queue are quoted there and hold no spaces; before them stands who the client is, with a name of its own choice.
func parseRefusal(text string) (Refusal, bool) {
	const mark = " - Subscription Violation - Subject "
	at := strings.LastIndex(text, mark)
	if at < 0 {
		return Refusal{}, false
	}
	var ok bool
	r, rest := Refusal{Member: printable(text[:at])}, text[at+len(mark):]
	if r.Subject, rest, ok = unquote(rest); !ok {
		return Refusal{}, false
	}
	if rest, ok = strings.CutPrefix(rest, ", Queue: "); ok {
		r.Queue, _, ok = unquote(rest)
		return r, ok
	}
	return r, true
}

// printable shows who a client is in one line, without the quotes around its name.
func printable(s string) string {
	s = strings.NewReplacer(`"`, "", " - ", " ").Replace(s)
	return strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return '?'
	}, s)
}

// unquote reads a quoted text at the beginning of s.
func unquote(s string) (text, rest string, ok bool) {
	quoted, err := strconv.QuotedPrefix(s)
	if err != nil {
		return "", "", false
	}
	text, err = strconv.Unquote(quoted)
	return text, s[len(quoted):], err == nil
}
