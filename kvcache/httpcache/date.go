package httpcache

import (
	"strings"
	"time"

	"millrace/node"
)

// The three forms of an HTTP date (RFC 9110 §5.6.7), each of fixed width but for RFC 850's day name.
const (
	imfFixdate = "Mon, 02 Jan 2006 15:04:05 GMT"
	asctime    = "Mon Jan _2 15:04:05 2006"
	rfc850     = ", 02-Jan-06 15:04:05 GMT"
	zone       = " GMT"
)

// ParseDate parses an HTTP date strictly (RFC 9110 §5.6.7): only the three forms, only GMT and exact spacing, but in
// any case of letters, as caches should (RFC 9111 §4.2). now decides the century of RFC 850's two-digit years: its own,
// or the previous one if the date would be over 50 years ahead.
func ParseDate(s string, now time.Time) (time.Time, bool) {
	switch {
	case len(s) == len(imfFixdate) && s[3] == ',', len(s) == len(asctime) && s[3] == ' ':
		if !isDay(s[:3], true) {
			return time.Time{}, false
		}
		layout := imfFixdate
		if s[3] == ' ' {
			layout = asctime
		}
		return parseExactly(layout[3:], s[3:])
	}
	day, rest, ok := strings.Cut(s, ",")
	if !ok || !isDay(day, false) {
		return time.Time{}, false
	}
	t, ok := parseExactly(rfc850, ","+rest)
	if !ok {
		return time.Time{}, false
	}
	years := now.UTC().Year()/100*100 + t.Year()%100 - t.Year()
	moved := t.AddDate(years, 0, 0)
	if moved.After(now.AddDate(50, 0, 0)) {
		moved = t.AddDate(years-100, 0, 0)
	}
	return moved, moved.Day() == t.Day() // 29 February isn't in every century
}

// isDay reports whether s is the name of a day. It needn't match the date.
func isDay(s string, short bool) bool {
	for d := time.Sunday; d <= time.Saturday; d++ {
		name := d.String()
		if short {
			name = name[:3]
		}
		if node.SameName(s, name) {
			return true
		}
	}
	return false
}

// parseExactly accepts only what it would format itself, in any case of letters. time.Parse alone is lenient about
// digits and spaces, and strict about the zone's case.
func parseExactly(layout, s string) (time.Time, bool) {
	if n := len(s) - len(zone); n > 0 && s[n:] != zone && node.SameName(s[n:], zone) {
		s = s[:n] + zone
	}
	t, err := time.Parse(layout, s)
	if err != nil {
		return time.Time{}, false
	}
	return t.UTC(), node.SameName(t.UTC().Format(layout), s)
}

// FormatDate formats a date in the preferred form.
func FormatDate(t time.Time) string { return t.UTC().Format(imfFixdate) }
