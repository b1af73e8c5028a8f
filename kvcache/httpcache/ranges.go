package httpcache

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"time"

	"millrace/node"
)

// Span is a part of a body, from First to Last inclusive, as in bytes=0-499.
type Span struct{ First, Last int64 }

// Len returns the number of bytes.
func (s Span) Len() int64 { return s.Last - s.First + 1 }

// String formats the span as in a Range field.
func (s Span) String() string {
	return "bytes=" + strconv.FormatInt(s.First, 10) + "-" + strconv.FormatInt(s.Last, 10)
}

// Ask formats the span as in a Range field for a body of that length. It is open if it extends to the end.
func (s Span) Ask(length int64) string {
	if s.Last == length-1 {
		return "bytes=" + strconv.FormatInt(s.First, 10) + "-"
	}
	return s.String()
}

// RangeUse says what a Range field means for a body.
type RangeUse int

// The values of RangeUse.
const (
	RangeNone RangeUse = iota // no range, or one to ignore: the whole body
	RangeSome                 // the spans
	RangeBad                  // 416: no byte of it exists
)

// maxSpans is how many ranges a request may have. More, or much overlap, is an attack and is ignored (RFC 9110 §14.2).
const maxSpans = 16

// ParseRange parses Range for a body of that length (RFC 9110 §14.1.2): single, several, open and suffix ranges. A
// field that isn't in bytes or can't be parsed is ignored. So is any range of an empty body, for clients that always
// send one.
func ParseRange(value string, length int64) ([]Span, RangeUse) {
	unit, set, ok := strings.Cut(value, "=")
	if !ok || !strings.EqualFold(unit, "bytes") || length <= 0 {
		return nil, RangeNone
	}
	list := strings.Split(set, ",")
	var spans []Span
	asked := false
	for _, spec := range list {
		if spec = trim(spec); spec == "" {
			continue
		}
		asked = true
		span, within, valid := parseSpan(spec, length)
		if !valid {
			return nil, RangeNone
		}
		if within {
			spans = append(spans, span)
		}
	}
	switch {
	case !asked || len(spans) > maxSpans || overlap(spans) > 2:
		return nil, RangeNone
	case len(spans) == 0:
		return nil, RangeBad
	}
	return coalesce(spans), RangeSome
}

// coalesce merges spans that overlap, at the position of the first one (RFC 9110 §15.3.7.2), so that no byte is sent
// twice.
func coalesce(spans []Span) []Span {
	out := spans[:0]
	for _, s := range spans {
		at := len(out)
		for i := 0; i < len(out); i++ {
			if have := out[i]; have.First <= s.Last && s.First <= have.Last {
				s = Span{min(have.First, s.First), max(have.Last, s.Last)}
				out = slices.Delete(out, i, i+1)
				at, i = min(at, i), i-1
			}
		}
		out = slices.Insert(out, at, s)
	}
	return out
}

func parseSpan(spec string, length int64) (s Span, within, valid bool) {
	first, last, ok := strings.Cut(spec, "-")
	if !ok {
		return s, false, false
	}
	if first == "" {
		n, ok := position(last)
		s = Span{max(length-n, 0), length - 1}
		return s, n > 0, ok
	}
	a, ok := position(first)
	if !ok {
		return s, false, false
	}
	b := length - 1
	if last != "" {
		if b, ok = position(last); !ok || b < a {
			return s, false, false
		}
	}
	return Span{a, min(b, length-1)}, a < length, true
}

func position(s string) (int64, bool) {
	if s == "" || len(s) > 18 || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// overlap returns how many spans overlap another one.
func overlap(spans []Span) int {
	sorted := slices.SortedFunc(slices.Values(spans), func(a, b Span) int {
		return int(min(max(a.First-b.First, -1), 1))
	})
	n, end := 0, int64(-1)
	for _, s := range sorted {
		if s.First <= end {
			n++
		}
		end = max(end, s.Last)
	}
	return n
}

// RangeApplies reports whether If-Range allows the range (RFC 9110 §13.1.5): its entity tag strongly matches the stored
// one, or its date equals the stored Last-Modified, which must be strong itself.
func RangeApplies(request, stored node.Header, now time.Time) bool {
	values := request.Values("If-Range")
	switch len(values) {
	case 0:
		return true
	case 1:
	default:
		return false
	}
	value := values[0]
	if strings.HasSuffix(value, `"`) {
		return SameStrongly(value, stored.Get("ETag"))
	}
	_, ok := ParseDate(value, now)
	return ok && value == stored.Get("Last-Modified") && strongDate(stored, now)
}

// strongDate reports whether a Last-Modified is a strong validator: at least a minute older than Date. Then the content
// can't have changed twice within its second, even if two clocks are involved (RFC 9110 §8.8.2.2).
func strongDate(h node.Header, now time.Time) bool {
	modified, okModified := ParseDate(h.Get("Last-Modified"), now)
	made, okMade := ParseDate(h.Get("Date"), now)
	return okModified && okMade && made.Sub(modified) >= time.Minute
}

// RangeCondition returns the value of If-Range that asks for a range of exactly the stored representation: its strong
// validator, or "" if it has none.
func RangeCondition(stored node.Header, now time.Time) string {
	switch etag := stored.Get("ETag"); {
	case strongETag(etag):
		return etag
	case etag == "" && strongDate(stored, now):
		return stored.Get("Last-Modified")
	}
	return ""
}

// SameRepresentation reports whether two responses have bytes of one representation: they share a strong validator (RFC
// 9111 §3.4).
func SameRepresentation(a, b node.Header, now time.Time) bool {
	condition := RangeCondition(a, now)
	return condition != "" && condition == RangeCondition(b, now)
}

// OtherRepresentation reports whether two responses are known to be of different representations, because a validator
// that both have differs.
func OtherRepresentation(a, b node.Header) bool {
	if x, y := a.Get("ETag"), b.Get("ETag"); x != "" && y != "" {
		return x != y && !sameWeakly(x, y)
	}
	x, y := a.Get("Last-Modified"), b.Get("Last-Modified")
	return x != "" && y != "" && x != y
}

// ContentRange returns the Content-Range of a part (RFC 9110 §14.4).
func ContentRange(s Span, length int64) string {
	return "bytes " + strconv.FormatInt(s.First, 10) + "-" + strconv.FormatInt(s.Last, 10) + "/" +
		strconv.FormatInt(length, 10)
}

// UnsatisfiedRange returns the Content-Range of a 416.
func UnsatisfiedRange(length int64) string { return "bytes */" + strconv.FormatInt(length, 10) }

// ParseContentRange parses the Content-Range of a 206 with a known length.
func ParseContentRange(value string) (s Span, length int64, ok bool) {
	set, ok := strings.CutPrefix(value, "bytes ")
	if !ok {
		return s, 0, false
	}
	span, total, ok := strings.Cut(set, "/")
	first, last, okSpan := strings.Cut(span, "-")
	a, okA := position(first)
	b, okB := position(last)
	length, okLength := position(total)
	if !ok || !okSpan || !okA || !okB || !okLength || a > b || b >= length {
		return s, 0, false
	}
	return Span{a, b}, length, true
}

// OpenContentRange reports whether the Content-Range of a 206 has no length, as in bytes 0-4/*.
func OpenContentRange(value string) bool {
	known, open := strings.CutSuffix(value, "/*")
	_, _, ok := ParseContentRange(known + "/" + strings.Repeat("9", 18))
	return open && ok
}

// Multipart is what surrounds the parts of a multipart/byteranges body (RFC 9110 §14.6): a head before each part, and
// Close after the last one.
type Multipart struct {
	ContentType string
	Heads       []string
	Close       string
	Length      int64
}

// NewMultipart returns the multipart for spans of a body of that length and type. The boundary is derived from seed, so
// a part can contain it only if its author knows seed.
func NewMultipart(spans []Span, length int64, contentType, seed string) Multipart {
	sum := sha256.Sum256([]byte(seed))
	boundary := hex.EncodeToString(sum[:12])
	m := Multipart{ContentType: "multipart/byteranges; boundary=" + boundary, Close: "\r\n--" + boundary + "--\r\n"}
	for _, s := range spans {
		head := "\r\n--" + boundary + "\r\n"
		if contentType != "" {
			head += "Content-Type: " + contentType + "\r\n"
		}
		head += "Content-Range: " + ContentRange(s, length) + "\r\n\r\n"
		m.Heads = append(m.Heads, head)
		m.Length += int64(len(head)) + s.Len()
	}
	m.Length += int64(len(m.Close))
	return m
}
