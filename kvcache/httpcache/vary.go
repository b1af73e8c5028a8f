package httpcache

import (
	"slices"
	"strings"

	"millrace/node"
)

// VaryNames are the request fields that a response depends on, in lower case, sorted, without repeats (RFC 9110
// §12.5.5). A * anywhere makes the list just that: such a response is never reused (RFC 9111 §4.1). So does what can't
// be the name of a field, since no request has it and all would match.
func VaryNames(h node.Header) []string {
	names := words(h.Values("Vary"))
	for i, name := range names {
		if name == "*" || !isToken(name) {
			return []string{"*"}
		}
		names[i] = strings.ToLower(name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// AppendVariant appends what a request has in the named fields, normalised, so that requests which match as RFC 9111
// §4.1 says append the same. names come from VaryNames.
func AppendVariant(b []byte, names []string, h node.Header) []byte {
	for _, name := range names {
		b = append(append(b, '\n'), name...)
		if value, ok := selecting(name, h); ok {
			b = append(append(b, ':'), value...)
		}
	}
	return b
}

// selecting gives a field's lines as one normalised value. ok is false if the request hasn't the field, which matches
// only other requests without it.
func selecting(name string, h node.Header) (value string, ok bool) {
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
	return combined(lines), true
}

// combined gives lines as one value, without the space around commas. Of a field that isn't known nothing else may be
// left out: quotes may hold commas, and an empty element may mean something.
func combined(lines []string) string {
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

// codings are the content codings that this cache tells apart, from the strongest.
var codings = [...]string{"zstd", "br", "gzip"}

// AcceptEncoding gives one spelling for all values of Accept-Encoding that accept the same of zstd, br and gzip: those,
// in this order, or "identity". One that says more than that (identity;q=0) stays as it is but for case and space. Sent
// to an origin it never asks for what the client doesn't accept.
func AcceptEncoding(lines []string) string {
	var accepted [len(codings)]bool
	for _, word := range words(lines) {
		name, weight, _ := weighted(word)
		switch {
		case name == "x-gzip":
			name = "gzip"
		case (name == "identity" || name == "*") && weight == 0:
			return strings.ToLower(strings.Join(words(lines), ","))
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

// acceptLanguage gives one spelling for all values that prefer the same languages in the same order and refuse the
// same. One with a weight that can't be read stays as it is.
func acceptLanguage(lines []string) string {
	type choice struct {
		name   string
		weight int
	}
	var list []choice
	for _, word := range words(lines) {
		name, weight, ok := weighted(word)
		switch {
		case !ok:
			return strings.Join(words(lines), ",")
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

// weighted splits a member of an Accept field from its weight, in thousandths (RFC 9110 §12.4.2). One that can't be
// read is 0, and not ok.
func weighted(s string) (name string, weight int, ok bool) {
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
