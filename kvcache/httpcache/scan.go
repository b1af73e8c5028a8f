package httpcache

import "strings"

// pair is one element of a list such as Cache-Control: a name in lower case and its argument. An element that can't be
// parsed has no name, and its text as the argument.
type pair struct {
	name, arg string
	hasArg    bool
	malformed bool // its argument violates the grammar
}

// pairs parses field lines as one list of name[=argument], where an argument is a token or a quoted string (RFC 9110
// §5.6). If a quoted string isn't closed, the rest of the line is one element that can't be parsed.
func pairs(lines []string) (list []pair) {
	for _, line := range lines {
		for line != "" {
			var element string
			var closed bool
			element, line, closed = cutElement(line, ',')
			switch element = trim(element); {
			case !closed:
				list = append(list, pair{arg: element, malformed: true})
			case element != "":
				list = append(list, parsePair(element))
			}
		}
	}
	return list
}

// cutElement cuts at the first separator outside quoted strings. closed is false if a quoted string isn't closed.
func cutElement(s string, separator byte) (element, rest string, closed bool) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == separator && !quoted:
			return s[:i], s[i+1:], true
		}
	}
	return s, "", !quoted
}

func parsePair(s string) pair {
	name, arg, hasArg := strings.Cut(s, "=")
	p := pair{name: strings.ToLower(name), arg: arg, hasArg: hasArg}
	switch {
	case !isToken(name):
		return pair{arg: s, malformed: true}
	case !hasArg:
	case strings.HasPrefix(arg, `"`):
		p.arg, p.malformed = unquote(arg)
	default:
		p.malformed = !isToken(arg)
	}
	return p
}

// unquote decodes a quoted string (RFC 9110 §5.6.4).
func unquote(s string) (text string, bad bool) {
	if len(s) < 2 || s[len(s)-1] != '"' {
		return "", true
	}
	s = s[1 : len(s)-1]
	if strings.IndexByte(s, '\\') < 0 {
		return s, strings.IndexByte(s, '"') >= 0
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '"' {
			return "", true
		}
		if s[i] == '\\' {
			if i++; i == len(s) {
				return "", true
			}
		}
		b.WriteByte(s[i])
	}
	return b.String(), false
}

func isToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

func trim(s string) string { return strings.Trim(s, " \t") }

// splitList splits a list of tokens at commas and drops empty elements.
func splitList(lines []string) []string {
	var out []string
	for _, line := range lines {
		for word := range strings.SplitSeq(line, ",") {
			if word = trim(word); word != "" {
				out = append(out, word)
			}
		}
	}
	return out
}

// MaxAge is the largest number of seconds; larger ones count as MaxAge (RFC 9111 §1.2.2).
const MaxAge = 1 << 31

// seconds parses delta-seconds, which have only digits (RFC 9111 §1.2.2).
func seconds(s string) (n int64, ok bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	for i := range len(s) {
		if n = n*10 + int64(s[i]-'0'); n >= MaxAge {
			return MaxAge, true
		}
	}
	return n, true
}
