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

// Span is a part of a body: from First to Last, both included, as in bytes=0-499.
type Span struct{ First, Last int64 }

// Len is the number of bytes.
func (s Span) Len() int64 { return s.Last - s.First + 1 }

// String writes the span as a Range field does.
func (s Span) String() string {
	return "bytes=" + strconv.FormatInt(s.First, 10) + "-" + strconv.FormatInt(s.Last, 10)
}

// Ask writes the span of a body of that length as a Range field does: open if it goes on to the end.
func (s Span) Ask(length int64) string {
	if s.Last == length-1 {
		return "bytes=" + strconv.FormatInt(s.First, 10) + "-"
	}
	return s.String()
}

// RangeUse says what a Range field asks of a body.
type RangeUse int

// The uses.
const (
	RangeNone RangeUse = iota // none, or one that is to be ignored: the whole body
	RangeSome                 // the spans
	RangeBad                  // 416: no byte of it exists
)

// maxSpans bounds what one request may ask for: more, or much overlap, is an attack and is ignored (RFC 9110 §14.2).
const maxSpans = 16

// ParseRange reads Range for a body of that length (RFC 9110 §14.1.2): single, several, open and suffix ranges. One
// that isn't in bytes, or can't be read, is ignored, and so is any of an empty body, for clients that ask for ranges of
// everything.
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

// coalesce makes one span of those that overlap, where the first of them stands (RFC 9110 §15.3.7.2), so that no byte
// is given twice.
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

// overlap counts how many spans overlap another.
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

// RangeApplies reports whether If-Range lets the range count (RFC 9110 §13.1.5): its entity tag is strongly the stored
// one's, or its date exactly the Last-Modified, which must be strong itself, a minute older than Date.
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

// strongDate reports whether a Last-Modified is a strong validator: it is so much older than Date that nothing can have
// changed twice in its second, even if two clocks made them (RFC 9110 §8.8.2.2).
func strongDate(h node.Header, now time.Time) bool {
	modified, okModified := ParseDate(h.Get("Last-Modified"), now)
	made, okMade := ParseDate(h.Get("Date"), now)
	return okModified && okMade && made.Sub(modified) >= time.Minute
}

// RangeCondition is the value of If-Range that asks for a range of the stored representation and of no other: its
// strong validator, "" if it has none.
func RangeCondition(stored node.Header, now time.Time) string {
	switch etag := stored.Get("ETag"); {
	case strongETag(etag):
		return etag
	case etag == "" && strongDate(stored, now):
		return stored.Get("Last-Modified")
	}
	return ""
}

// SameRepresentation reports whether two responses have bytes of one representation, since they share a strong
// validator (RFC 9111 §3.4).
func SameRepresentation(a, b node.Header, now time.Time) bool {
	condition := RangeCondition(a, now)
	return condition != "" && condition == RangeCondition(b, now)
}

// OtherRepresentation reports whether two responses are known to be of different representations, by the validators
// that both have.
func OtherRepresentation(a, b node.Header) bool {
	if x, y := a.Get("ETag"), b.Get("ETag"); x != "" && y != "" {
		return x != y && !sameWeakly(x, y)
	}
	x, y := a.Get("Last-Modified"), b.Get("Last-Modified")
	return x != "" && y != "" && x != y
}

// ContentRange is the field of a part (RFC 9110 §14.4).
func ContentRange(s Span, length int64) string {
	return "bytes " + strconv.FormatInt(s.First, 10) + "-" + strconv.FormatInt(s.Last, 10) + "/" +
		strconv.FormatInt(length, 10)
}

// UnsatisfiedRange is the field of a 416.
func UnsatisfiedRange(length int64) string { return "bytes */" + strconv.FormatInt(length, 10) }

// ParseContentRange reads the field of a 206 whose whole length is known.
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

// OpenContentRange reports whether a field of a 206 leaves the whole length open, as in bytes 0-4/*.
func OpenContentRange(value string) bool {
	known, open := strings.CutSuffix(value, "/*")
	_, _, ok := ParseContentRange(known + "/" + strings.Repeat("9", 18))
	return open && ok
}

// Multipart is the frame of a multipart/byteranges body (RFC 9110 §14.6): before each part its head, behind the last
// one Close.
type Multipart struct {
	ContentType string
	Heads       []string
	Close       string
	Length      int64
}

// NewMultipart makes the frame around the spans of a body of that length and type. seed makes the boundary: a part that
// holds it would have to know it.
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
