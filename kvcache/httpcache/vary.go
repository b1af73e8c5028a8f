package httpcache

import (
	"slices"
	"strings"

	"millrace/node"
)

// VaryNames returns the request fields that a response depends on, in lower case, sorted and without repeats (RFC 9110
// §12.5.5). If there is a *, the result is just that: such a response is never reused (RFC 9111 §4.1). The same holds
// for an invalid name, since no request could have that field and all would match.
func VaryNames(h node.Header) []string {
	names := splitList(h.Values("Vary"))
	for i, name := range names {
		if name == "*" || !isToken(name) {
			return []string{"*"}
		}
		names[i] = strings.ToLower(name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// AppendVariant appends a request's values of the named fields, normalized. Requests that match according to RFC 9111
// §4.1 append the same bytes. names come from VaryNames.
func AppendVariant(b []byte, names []string, h node.Header) []byte {
	for _, name := range names {
		b = append(append(b, '\n'), name...)
		if value, ok := variantValue(name, h); ok {
			b = append(append(b, ':'), value...)
		}
	}
	return b
}

// variantValue returns a field's lines as one normalized value. ok is false if the request doesn't have the field; it
// then matches only other requests without it.
func variantValue(name string, h node.Header) (value string, ok bool) {
	lines := h.Values(name)
	if len(lines) == 0 {
		return "", false
	}
	switch name {
	case "accept-encoding":
		return AcceptEncoding(lines), true
	case "accept-language":
		return acceptLanguage(lines), true
	case "cookie", "authorization", "user-agent", "referer":
		return strings.Join(lines, ", "), true
	}
	return combine(lines), true
}

// combine joins lines to one value, without whitespace around commas. For an unknown field nothing else may be left
// out: quoted strings may contain commas, and empty elements may have a meaning.
func combine(lines []string) string {
	rest := strings.Join(lines, ", ")
	if strings.IndexByte(rest, ',') < 0 {
		return trim(rest)
	}
	b := make([]byte, 0, len(rest))
	for {
		element, more, closed := cutElement(rest, ',')
		b = append(b, trim(element)...)
		if !closed || len(element) == len(rest) {
			return string(b)
		}
		b, rest = append(b, ','), more
	}
}

// codings are the content codings that this cache distinguishes, the strongest first.
var codings = [...]string{"zstd", "br", "gzip"}

// AcceptEncoding returns one spelling for all values of Accept-Encoding that accept the same of zstd, br and gzip:
// those, in this order, or "identity". A value that says more than that (identity;q=0) keeps its elements, in lower
// case. The result never accepts anything that the client doesn't.
func AcceptEncoding(lines []string) string {
	var accepted [len(codings)]bool
	for _, word := range splitList(lines) {
		name, weight, _ := parseWeight(word)
		switch {
		case name == "x-gzip":
			name = "gzip"
		case (name == "identity" || name == "*") && weight == 0:
			return strings.ToLower(strings.Join(splitList(lines), ","))
		}
		for i, coding := range codings {
			if name == coding {
				accepted[i] = weight > 0
			}
		}
	}
	var out []string
	for i, coding := range codings {
		if accepted[i] {
			out = append(out, coding)
		}
	}
	if len(out) == 0 {
		return "identity"
	}
	return strings.Join(out, ", ")
}

// acceptLanguage returns one spelling for all values that prefer the same languages in the same order and refuse the
// same. A value with an invalid weight stays as it is.
func acceptLanguage(lines []string) string {
	type choice struct {
		name   string
		weight int
	}
	var list []choice
	for _, word := range splitList(lines) {
		name, weight, ok := parseWeight(word)
		switch {
		case !ok:
			return strings.Join(splitList(lines), ",")
		case weight == 0:
			name += ";q=0"
		}
		list = append(list, choice{name, weight})
	}
	slices.SortStableFunc(list, func(a, b choice) int { return b.weight - a.weight })
	names := make([]string, len(list))
	for i, c := range list {
		names[i] = c.name
	}
	return strings.Join(slices.Compact(names), ",")
}

// parseWeight splits a member of an Accept field into name and weight, in thousandths (RFC 9110 §12.4.2). An invalid
// weight is 0, and ok is false.
func parseWeight(s string) (name string, weight int, ok bool) {
	name, rest, has := strings.Cut(s, ";")
	name = strings.ToLower(trim(name))
	if !has {
		return name, 1000, true
	}
	q, ok := strings.CutPrefix(strings.ToLower(strings.ReplaceAll(rest, " ", "")), "q=")
	whole, fraction, _ := strings.Cut(q, ".")
	fraction += "000"
	n, okFraction := seconds(fraction[:3])
	switch {
	case !ok || len(fraction) > 6 || !okFraction || (whole != "0" && whole != "1") || (whole == "1" && n > 0):
		return name, 0, false
	case whole == "1":
		return name, 1000, true
	}
	return name, int(n), true
}
