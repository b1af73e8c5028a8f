package logs_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"millrace/embedded/logs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const token = "a-token-of-some-length-0123456789"

// Secrets are hidden wherever they stand and however they are encoded, and nothing else is.
func TestHide(t *testing.T) {
	var s logs.Secrets
	s.Add(token, "", "abc", "short-one")
	for text, want := range map[string]string{
		"nothing here":                            "nothing here",
		"100% of abc, 5%%, %2":                    "100% of abc, 5%%, %2",
		token:                                     "[secret]",
		"x" + token + "y":                         "x[secret]y",
		token + token:                             "[secret]",
		token + " " + token:                       "[secret] [secret]",
		"%61" + token[1:] + "%20":                 "[secret]%20",
		"%5B" + strings.ToUpper("%6e"):            "%5B%6E",
		"begin " + token[:20] + "...":             "begin [secret]...",
		"end ..." + token[12:]:                    "end ...[secret]",
		"too little: " + token[:12]:               "too little: " + token[:12],
		"short-one, short-on":                     "[secret], short-on",
		"a-token-of-a-token-of-some-length-01234": "a-token-of-[secret]",
	} {
		if got := s.Hide(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}

// No half of a secret is left, and all other text is unchanged.
func FuzzHide(f *testing.F) {
	f.Add("a"+token+"b", token)
	f.Add("%61%2dtoken", "a-token")
	f.Add("%000000", "000000")
	f.Fuzz(func(t *testing.T, text, secret string) {
		if strings.ContainsAny(secret, "%[]") {
			return
		}
		var s logs.Secrets
		s.Add(secret)
		hidden := s.Hide(text)
		if len(secret) >= 6 && strings.Contains(hidden, secret) {
			t.Errorf("%q shows %q", hidden, secret)
		}
		rest := text
		for part := range strings.SplitSeq(hidden, "[secret]") {
			_, after, ok := strings.Cut(rest, part)
			if !ok {
				t.Fatalf("%q of %q isn't in %q", part, hidden, rest)
			}
			rest = after
		}
	})
}

// log is a log in memory behind a Handler.
type log struct {
	*slog.Logger
	handler *logs.Handler

	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func guarded() *log {
	l := &log{}
	l.handler = logs.New(slog.NewJSONHandler(l, nil))
	l.Logger = slog.New(l.handler)
	return l
}

type line struct {
	Msg      string
	Cause    string
	Target   string
	Repeated int
}

// take returns the lines since the last call.
func (l *log) take(t *testing.T) (out []line) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for dec := json.NewDecoder(&l.buf); dec.More(); {
		var n line
		if err := dec.Decode(&n); err != nil {
			t.Fatal(err)
		}
		out = append(out, n)
	}
	l.buf.Reset()
	return out
}

// Attributes of every kind lose their secrets, in warnings and errors.
func TestAttributesAreClean(t *testing.T) {
	l := guarded()
	defer l.handler.Close()
	l.handler.Secrets().Add(token)
	l.With("name", token).WithGroup("g").Error("about "+token, "cause", errors.New("no "+token),
		"list", []string{token},
		slog.Group("h", "deep", token), "number", 7)
	if out := l.buf.String(); strings.Contains(out, token) || strings.Count(out, "[secret]") != 5 ||
		!strings.Contains(out, `"number":7`) {
		t.Error(out)
	}
}

// Of a flood the first lines are written at once, then one line every ten seconds with the number of the others. After
// the flood, a line is written at once again.
func TestFloodIsThinned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := guarded()
		defer l.handler.Close()
		for i := range 1000 {
			l.Warn("it happened", "target", "a", "cause", fmt.Errorf("request %d of %q", i, strconv.Itoa(i)))
		}
		first := l.take(t)
		if n := len(first); n == 0 || n > 20 {
			t.Fatalf("%d lines at once", n)
		}
		<-time.After(11 * time.Second)
		told := l.take(t)
		if len(told) != 1 || told[0].Repeated+len(first) != 1000 || told[0].Cause != `request 999 of "999"` {
			t.Errorf("after %d lines, these tell of the rest: %+v", len(first), told)
		}
		l.Warn("it happened", "target", "a", "cause", errors.New(`request 5 of "5"`)) // it goes on
		if got := l.take(t); got != nil {
			t.Errorf("a line of a flood that goes on was written at once: %+v", got)
		}
		<-time.After(30 * time.Second)
		if got := l.take(t); len(got) != 1 || got[0].Repeated != 1 {
			t.Errorf("the last line of the flood was told as %+v", got)
		}
		l.Warn("it happened", "target", "a", "cause", errors.New(`request 6 of "6"`))
		if got := l.take(t); len(got) != 1 {
			t.Errorf("after the flood a line gave %+v", got)
		}
	})
}

// A flood doesn't delay lines with other sources, causes or messages. Info lines are never thinned.
func TestOthersAreNotThinned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := guarded()
		defer l.handler.Close()
		for range 1000 {
			l.Warn("it happened", "target", "a", "cause", errors.New("refused"))
		}
		l.take(t)
		l.Warn("it happened", "target", "b", "cause", errors.New("refused"))
		l.Warn("it happened", "target", "a", "cause", errors.New("reset"))
		l.Error("it happened", "target", "a", "cause", errors.New("refused"))
		l.Warn("else", "target", "a", "cause", errors.New("refused"))
		l.With("target", "c").Warn("it happened", "cause", errors.New("refused"))
		if got := l.take(t); len(got) != 5 {
			t.Errorf("got %+v", got)
		}
		for range 1000 {
			l.Info("request")
		}
		if got := l.take(t); len(got) != 1000 {
			t.Errorf("%d of 1000 lines of information", len(got))
		}
	})
}

// With any number of sources, memory and output are bounded, and every line is counted. Close writes the pending
// numbers.
func TestManySourcesAreBounded(t *testing.T) {
	l := guarded()
	const sources = 20_000
	for i := range sources {
		l.Warn("it happened", "target", fmt.Sprint("target ", i))
	}
	l.handler.Close()
	lines, told := l.take(t), 0
	for _, n := range lines {
		told += max(n.Repeated, 1)
	}
	if len(lines) > 1000 || told != sources {
		t.Errorf("%d lines tell of %d of %d", len(lines), told, sources)
	}
	l.Warn("it happened", "target", "x")
	if got := l.take(t); len(got) != 1 {
		t.Errorf("after Close: %+v", got)
	}
}

// With concurrent writers the handler duplicates and loses no line.
func TestConcurrentLines(t *testing.T) {
	l := guarded()
	var writers sync.WaitGroup
	for i := range 8 {
		writers.Go(func() {
			for range 500 {
				l.Warn("it happened", "target", fmt.Sprint("t", i%3))
			}
		})
	}
	writers.Wait()
	l.handler.Close()
	told := 0
	for _, n := range l.take(t) {
		told += max(n.Repeated, 1)
	}
	if told != 4000 {
		t.Errorf("%d of 4000 lines are told", told)
	}
}
