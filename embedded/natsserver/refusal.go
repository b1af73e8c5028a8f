package natsserver

import (
	"strconv"
	"strings"
	"unicode"
)

// Refusal is a member's subscription that the server refused.
type Refusal struct {
	Member  string // the client as the server describes it: address, language, name; printable
	Subject string // as the member sent it
	Queue   string // likewise; empty if it subscribed in no queue group
}

// parseRefusal finds a refused subscription in a message of the server, which reports it nowhere else. Subject and
// queue are quoted in it and have no spaces. Before them stands the client, with a name of its own choice.
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

// printable returns the description of a client on one line, without the quotes around its name.
func printable(s string) string {
	s = strings.NewReplacer(`"`, "", " - ", " ").Replace(s)
	return strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return '?'
	}, s)
}

// unquote parses a quoted string at the beginning of s.
func unquote(s string) (text, rest string, ok bool) {
	quoted, err := strconv.QuotedPrefix(s)
	if err != nil {
		return "", "", false
	}
	text, err = strconv.Unquote(quoted)
	return text, s[len(quoted):], err == nil
}
