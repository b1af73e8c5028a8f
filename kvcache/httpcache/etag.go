package httpcache

import "strings"

// parseETag parses an entity tag at the start of s (RFC 9110 §8.8.3). opaque includes its quotes.
func parseETag(s string) (opaque string, weak bool, rest string, ok bool) {
	if strings.HasPrefix(s, "W/") {
		weak, s = true, s[2:]
	}
	if s == "" || s[0] != '"' {
		return "", false, "", false
	}
	end := strings.IndexByte(s[1:], '"')
	if end < 0 {
		return "", false, "", false
	}
	return s[:end+2], weak, s[end+2:], true
}

// strongETag reports whether a field value is one strong entity tag.
func strongETag(value string) bool {
	_, weak, rest, ok := parseETag(value)
	return ok && !weak && rest == ""
}

// SameStrongly compares two entity tags strongly (RFC 9110 §8.8.3.2): both are strong and equal.
func SameStrongly(a, b string) bool { return a == b && strongETag(a) }

// sameWeakly compares two entity tags weakly (RFC 9110 §8.8.3.2).
func sameWeakly(a, b string) bool {
	x, _, restX, okX := parseETag(a)
	y, _, restY, okY := parseETag(b)
	return okX && okY && restX == "" && restY == "" && x == y
}

// matchesAny reports whether a list of entity tags, or *, matches etag by the given comparison (RFC 9110 §13.1.1,
// §13.1.2).
func matchesAny(lines []string, etag string, same func(a, b string) bool) bool {
	for _, line := range lines {
		line = trim(line)
		if line == "*" {
			return true
		}
		for line != "" {
			_, _, rest, ok := parseETag(line)
			if !ok {
				if _, line, ok = strings.Cut(line, ","); !ok {
					break
				}
				line = trim(line)
				continue
			}
			if same(line[:len(line)-len(rest)], etag) {
				return true
			}
			line = trim(strings.TrimLeft(rest, ", \t"))
		}
	}
	return false
}
