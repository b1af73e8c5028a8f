package node_test

import (
	"errors"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"millrace/node"
	"millrace/node/nodetest"
)

func TestParseSubject(t *testing.T) {
	for input, want := range map[string]string{
		"a": "", "orders.get": "", "orders.get.{id}": "", "a.{x}.{y}": "", "A-1_b.c": "", "https.x": "",
		strings.Repeat("a", 256): "",
		"":                       "0 bytes", strings.Repeat("a", 257): "257 bytes", "a..b": `token ""`,
		".a":  `token ""`,
		"a.":  `token ""`,
		"a.*": `token "*"`,
		"a.>": `token ">"`, "a b": `token "a b"`, "a.x{id}": "token", "a.{i-d}": "is not a parameter",
		"a.{}":  "is not a parameter",
		"{a}.b": "begins with a parameter", "http.x": "belongs to Millrace", "upstream.x": "belongs to Millrace",
		"cancel.http.x": "belongs to Millrace",
		"millrace.x":    "belongs to Millrace", "api": "belongs to Millrace", "event.x": "belongs to Millrace",
		"stream.x": "belongs to Millrace", "$JS.API": "token", "a.é": "token",
	} {
		s, err := node.ParseSubject(input)
		nodetest.WantError(t, input, err, want)
		if err == nil && s.String() != input {
			t.Errorf("%q is written as %q", input, s)
		}
	}
}

func TestSubjectWildcard(t *testing.T) {
	s := subject(t, "orders.{a}.get.{b}")
	if got := s.Wildcard(); got != "orders.*.get.*" {
		t.Errorf("got %q", got)
	}
	if got := s.Params(); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("got %q", got)
	}
}

func TestExpandWithoutParams(t *testing.T) {
	got, err := subject(t, "orders.get").Expand(nil)
	if got != "orders.get" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestExpandRandom checks that no value of a request can leave its token or reach another subject.
func TestExpandRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	token := regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	alphabet := []rune("abzABZ0189__--.*>$ {}/\\\r\n\x00é%")
	good, s := 0, subject(t, "orders.{a}.get.{b}")
	for range 10_000 {
		values := map[string]string{"a": randomText(r, alphabet), "b": randomText(r, alphabet[:12])}
		got, err := s.Expand(func(param string) string { return values[param] })
		if !token.MatchString(values["a"]) || !token.MatchString(values["b"]) {
			if !errors.Is(err, node.ErrParam) || got != "" {
				t.Fatalf("%q gives %q, %v", values, got, err)
			}
			continue
		}
		good++
		if want := "orders." + values["a"] + ".get." + values["b"]; got != want || err != nil {
			t.Fatalf("%q gives %q, %v", values, got, err)
		}
	}
	if good < 100 || good > 9900 {
		t.Errorf("%d of 10000 values were good", good)
	}
}

func TestExpandLength(t *testing.T) {
	s := subject(t, "a.{a}.{b}.{c}.{d}")
	fits := map[string]string{
		"a": strings.Repeat("x", 64), "b": strings.Repeat("x", 64), "c": strings.Repeat("x", 64),
		"d": strings.Repeat("x", 59),
	}
	if got, err := s.Expand(func(p string) string { return fits[p] }); err != nil || len(got) != 256 {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	fits["d"] += "x"
	if _, err := s.Expand(func(p string) string { return fits[p] }); !errors.Is(err, node.ErrParam) {
		t.Errorf("got %v", err)
	}
}

func subject(t *testing.T, s string) node.Subject {
	t.Helper()
	v, err := node.ParseSubject(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// randomText is short more often than not, and sometimes longer than a token may be.
func randomText(r *rand.Rand, alphabet []rune) string {
	n := r.IntN(6)
	if r.IntN(20) == 0 {
		n = 60 + r.IntN(10)
	}
	var b strings.Builder
	for range n {
		b.WriteRune(alphabet[r.IntN(len(alphabet))])
	}
	return b.String()
}
