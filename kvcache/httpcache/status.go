package httpcache

import (
	"math"
	"strconv"
	"time"
)

// Status is this cache's member of Cache-Status (RFC 9211 §2).
type Status struct {
	Hit bool
	// Why the request was forwarded: uri-miss, vary-miss, stale, request, bypass, method, partial, miss; empty with
	// Hit.
	Fwd       string
	FwdStatus int // status of the origin's response; 0 if it is the one sent, or there was none
	Stored    bool
	Collapsed bool
	HasTTL    bool
	TTL       time.Duration // remaining freshness; negative if stale
	Key       string        // the cache key, for debugging
	Detail    string        // more about the decision, a token
}

// The values of Fwd.
const (
	FwdBypass  = "bypass"
	FwdMethod  = "method"
	FwdURIMiss = "uri-miss"
	FwdVary    = "vary-miss"
	FwdRequest = "request"
	FwdStale   = "stale"
	FwdPartial = "partial"
	FwdMiss    = "miss"
)

// Word returns what the cache did in one word: hit, or why the request was forwarded; "" if the cache wasn't involved.
func (s *Status) Word() string {
	if s.Hit {
		return "hit"
	}
	return s.Fwd
}

// Append appends the member. It leaves out Fwd, FwdStatus, Stored and Collapsed with Hit, where they have no meaning
// (RFC 9211 §2.3, §2.5, §2.6).
func (s *Status) Append(b []byte) []byte {
	b = append(b, "Millrace"...)
	if s.Hit {
		b = append(b, "; hit"...)
	}
	forwarded := !s.Hit && s.Fwd != ""
	if forwarded {
		b = append(append(b, "; fwd="...), s.Fwd...)
		if s.FwdStatus != 0 {
			b = strconv.AppendInt(append(b, "; fwd-status="...), int64(s.FwdStatus), 10)
		}
	}
	if s.HasTTL {
		b = strconv.AppendInt(append(b, "; ttl="...), int64(math.Floor(s.TTL.Seconds())), 10)
	}
	if s.Stored && forwarded {
		b = append(b, "; stored"...)
	}
	if s.Collapsed && forwarded {
		b = append(b, "; collapsed"...)
	}
	if s.Key != "" {
		b = appendQuoted(append(b, "; key="...), s.Key)
	}
	if s.Detail != "" {
		b = append(b, "; detail="...)
		if first := s.Detail[0] | 0x20; isToken(s.Detail) && first >= 'a' && first <= 'z' {
			return append(b, s.Detail...)
		}
		b = appendQuoted(b, s.Detail)
	}
	return b
}

// appendQuoted appends an sf-string (RFC 8941 §4.1.6). Characters that it can't contain become question marks.
func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c >= 0x7f:
			b = append(b, '?')
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}
