package httpcache

import "slices"

// Parts are the stored spans of a body with their bytes. They are sorted and neither overlap nor touch.
type Parts struct {
	Length int64 // of the whole body
	Spans  []Span
	Bytes  [][]byte
}

// MaxParts limits the spans of one body, since readers look at each.
const MaxParts = 64

// Add adds a span (RFC 9111 §3.4). The caller has checked that both belong to one representation. Where the spans
// overlap, the new bytes win. It returns new lists and shares bytes.
func (p Parts) Add(s Span, b []byte) Parts {
	out := Parts{Length: p.Length}
	add := func(s Span, b []byte) {
		if s.Len() <= 0 {
			return
		}
		if n := len(out.Spans); n > 0 && out.Spans[n-1].Last+1 == s.First {
			out.Spans[n-1].Last = s.Last
			out.Bytes[n-1] = append(slices.Clip(out.Bytes[n-1]), b...)
			return
		}
		out.Spans, out.Bytes = append(out.Spans, s), append(out.Bytes, b)
	}
	placed := false
	place := func() {
		if !placed {
			placed = true
			add(s, b)
		}
	}
	for i, have := range p.Spans {
		data := p.Bytes[i]
		if have.First < s.First {
			last := min(have.Last, s.First-1)
			add(Span{have.First, last}, data[:last-have.First+1])
		}
		if have.Last >= s.First {
			place()
		}
		if have.Last > s.Last {
			first := max(have.First, s.Last+1)
			add(Span{first, have.Last}, data[first-have.First:])
		}
	}
	place()
	return out
}

// Whole reports whether no byte is missing.
func (p Parts) Whole() bool {
	return len(p.Spans) == 1 && p.Spans[0] == Span{0, p.Length - 1}
}

// Find returns the bytes of a span if all of them are stored.
func (p Parts) Find(s Span) ([]byte, bool) {
	if s.Len() <= 0 {
		return nil, true
	}
	for i, have := range p.Spans {
		if have.First <= s.First && s.Last <= have.Last {
			return p.Bytes[i][s.First-have.First : s.Last-have.First+1], true
		}
	}
	return nil, false
}

// Missing returns the span from the first missing byte to the last one. It returns none if that would be the whole
// body, or nothing is missing.
func (p Parts) Missing() (Span, bool) {
	gap := Span{0, p.Length - 1}
	if n := len(p.Spans); n > 0 {
		if p.Spans[0].First == 0 {
			gap.First = p.Spans[0].Last + 1
		}
		if p.Spans[n-1].Last == gap.Last {
			gap.Last = p.Spans[n-1].First - 1
		}
	}
	if gap.Len() <= 0 || gap.Len() >= p.Length {
		return Span{}, false
	}
	return gap, true
}

// Around returns the bytes before and after a span from Missing.
func (p Parts) Around(gap Span) (before, after []byte) {
	before, _ = p.Find(Span{0, gap.First - 1})
	after, _ = p.Find(Span{gap.Last + 1, p.Length - 1})
	return before, after
}
