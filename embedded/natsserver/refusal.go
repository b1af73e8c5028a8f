package natsserver

import (
	"strconv"
	"strings"
)

// Refusal is a member's subscription that the server refused.
type Refusal struct {
	Member  string // how the member shows itself: address, language, name
	Subject string
	Queue   string // empty if it subscribed in no queue group
}

// parseRefusal finds a refused subscription in the server's own message, the only place where it is told. Subject and
// queue are quoted there; before them stands who the client is.
func parseRefusal(text string) (Refusal, bool) {
	member, rest, ok := strings.Cut(text, " - Subscription Violation - Subject ")
	if !ok {
		return Refusal{}, false
	}
	r := Refusal{Member: strings.NewReplacer(`"`, "", " - ", " ").Replace(member)}
	if r.Subject, rest, ok = unquote(rest); !ok {
		return Refusal{}, false
	}
	if rest, ok = strings.CutPrefix(rest, ", Queue: "); ok {
		r.Queue, _, ok = unquote(rest)
		return r, ok
	}
	return r, true
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
