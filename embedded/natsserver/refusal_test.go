package natsserver

import (
	"strings"
	"testing"
	"unicode"
)

// A member chooses its name freely. It still can't forge another's refusal, and only printable characters reach the
// journal.
func FuzzRefusal(f *testing.F) {
	f.Add(`127.0.0.1:5 - cid:8 - "v1:go:worker" - Subscription Violation - Subject "http.hello", Queue: "w", SID 1`)
	f.Add(`127.0.0.1:5 - cid:8 - "v1:go:x - Subscription Violation - Subject \"a\"" - Subscription Violation - Subject "http.hello", SID 1`)
	f.Add(`x - Subscription Violation - Subject "a`)
	f.Fuzz(func(t *testing.T, text string) {
		r, ok := parseRefusal(text)
		if ok && !strings.Contains(text, " - Subscription Violation - ") {
			t.Errorf("%q became %+v", text, r)
		}
		if strings.ContainsFunc(r.Member, func(c rune) bool { return !unicode.IsPrint(c) }) {
			t.Errorf("%q can't be shown", r.Member)
		}
	})
}
