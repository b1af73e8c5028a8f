package edgetest

import (
	"net/http"
	"strings"
	"testing"

	"github.com/dunglas/httpsfv"
)

// limitFields are those of all drafts, and of the time before them.
var limitFields = []string{
	"RateLimit", "RateLimit-Policy", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "X-RateLimit-Limit",
	"X-RateLimit-Remaining", "X-RateLimit-Reset", "Retry-After",
}

// LimitFields gives what a response tells of limits: one value each.
func LimitFields(tb testing.TB, h http.Header) map[string]string {
	tb.Helper()
	out := map[string]string{}
	for _, name := range limitFields {
		lines := h.Values(name)
		if len(lines) > 1 {
			tb.Errorf("%s stands there %d times: %q", name, len(lines), lines)
		}
		if len(lines) > 0 {
			out[name] = lines[0]
		}
	}
	return out
}

// Quota is what RateLimit-Policy and RateLimit tell of one limit.
type Quota struct {
	Name string
	Q, W int64
	Unit string // qu
	Key  string // pk
	R, T int64
	HasT bool // t
}

// Quotas reads both fields as structured fields (RFC 9651), and checks what draft-ietf-httpapi-ratelimit-headers-10
// asks of them.
func Quotas(tb testing.TB, h http.Header) []Quota {
	tb.Helper()
	policy, err := httpsfv.UnmarshalList(h.Values("RateLimit-Policy"))
	if err != nil {
		tb.Fatalf("RateLimit-Policy %q: %v", h.Values("RateLimit-Policy"), err)
	}
	left, err := httpsfv.UnmarshalList(h.Values("RateLimit"))
	if err != nil || len(left) != len(policy) {
		tb.Fatalf("RateLimit %q beside %q: %v", h.Values("RateLimit"), h.Values("RateLimit-Policy"), err)
	}
	out := make([]Quota, len(policy))
	for i := range policy {
		p, l := policy[i].(httpsfv.Item), left[i].(httpsfv.Item)
		q := &out[i]
		q.Name, _ = p.Value.(string)
		if q.Name == "" || l.Value != p.Value {
			tb.Errorf("item %d is named %v and %v", i, p.Value, l.Value)
		}
		q.read(tb, p.Params, "q w qu pk")
		q.read(tb, l.Params, "r t")
		if q.Q < q.R || q.R < 0 || q.T < 0 || (q.W == 0) == q.HasT {
			tb.Errorf("%+v can't be", *q)
		}
	}
	return out
}

func (q *Quota) read(tb testing.TB, p *httpsfv.Params, known string) {
	tb.Helper()
	for _, name := range p.Names() {
		v, _ := p.Get(name)
		ok := strings.Contains(" "+known+" ", " "+name+" ")
		switch name {
		case "q":
			q.Q = whole(v, &ok)
		case "w":
			if q.W = whole(v, &ok); q.W < 1 {
				ok = false
			}
		case "r":
			q.R = whole(v, &ok)
		case "t":
			q.T, q.HasT = whole(v, &ok), true
		case "qu":
			q.Unit, _ = v.(string)
			ok = ok && strings.Contains(" requests content-bytes concurrent-requests ", " "+q.Unit+" ")
		case "pk":
			b, isBytes := v.([]byte)
			q.Key, ok = string(b), ok && isBytes
		}
		if !ok {
			tb.Errorf("parameter %s is %v", name, v)
		}
	}
}

func whole(v any, ok *bool) int64 {
	n, isInt := v.(int64)
	*ok = *ok && isInt && n >= 0
	return n
}

// OnlyQuota gives the one limit that a response tells of.
func OnlyQuota(tb testing.TB, h http.Header) Quota {
	tb.Helper()
	list := Quotas(tb, h)
	if len(list) != 1 {
		tb.Fatalf("%d limits in %q", len(list), h.Values("RateLimit-Policy"))
	}
	return list[0]
}
