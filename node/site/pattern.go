package site

import (
	"errors"
	"slices"
	"strings"

	"millrace/node"
)

const (
	maxPattern = 3 * MaxPath // bytes of a rule's path or target, encoded
	maxHolders = 16          // placeholders of a pattern
)

// pattern is the path of a rule: literal text, placeholders that match one segment or what stands before its end, and
// at most one splat that matches everything. Matching takes time in proportion to the path, and no memory.
type pattern struct {
	parts   []part
	holders []string // names of the placeholders in order
	splat   bool     // after the parts
	suffix  string   // literal text after the splat
	literal int      // bytes of literal text in all
}

// part is literal text, or a placeholder with the literal text that follows it in its segment.
type part struct {
	holder bool
	text   string
}

// captures has what the placeholders and the splat of a pattern matched.
type captures struct {
	holders [maxHolders]string
	splat   string
}

// parsePattern reads the path of a rule as people write it: /news/:year/*, readably or percent-encoded. The text it
// returns is the canonical one, of which it is its own parse. In it, %2A and %3A are the characters themselves.
func parsePattern(written string) (text string, p pattern, err error) {
	if text, err = canonicalPattern(written); err != nil {
		return "", pattern{}, err
	}
	head, tail, splat := strings.Cut(text, "*")
	if strings.Contains(tail, "*") {
		return "", pattern{}, mistakef("write %2A for the character itself", "it has two *")
	}
	p.splat, p.suffix = splat, literalText(tail)
	if _, holder, _ := cutHolder(tail); holder != "" {
		return "", pattern{}, mistakef("write %3A for the character : itself", "a placeholder follows the *")
	}
	if err := p.parseHead(head); err != nil {
		return "", pattern{}, err
	}
	if last := len(p.parts) - 1; splat && p.parts[last].holder {
		return "", pattern{}, errors.New("a placeholder and the * are in one segment")
	}
	p.literal = len(p.suffix)
	for _, part := range p.parts {
		p.literal += len(part.text)
	}
	return text, p, nil
}

// canonicalPattern returns the text of a pattern with its literal text as lookupPath has it.
func canonicalPattern(written string) (string, error) {
	switch {
	case strings.Contains(written, "://"):
		return "", mistakef("a route of the configuration can redirect other hosts",
			"it is a URL, and rules are for paths")
	case !strings.HasPrefix(written, "/"):
		return "", mistakef("", "%q doesn't begin with /", shorten(written))
	case strings.Contains(written, "?"):
		return "", mistakef("rules see no query; write %3F for the character itself", "it has a query")
	case len(written) > maxPattern:
		return "", mistakef("", "it has %d bytes, more than %d", len(written), maxPattern)
	}
	encoded, err := node.EncodeWritten(written)
	if err != nil {
		return "", err
	}
	canonical, slash, err := node.CanonicalPath(encoded)
	switch {
	case err != nil:
		return "", err
	case slash:
		return "", mistakef("", "no file has a path with %%2F")
	case len(canonical) > maxPattern:
		return "", mistakef("", "it has %d bytes when encoded, more than %d", len(canonical), maxPattern)
	}
	return unescapeExcept(canonical, "*:"), nil
}

// literalText returns the paths that literal text of a pattern stands for: it decodes %2A and %3A.
func literalText(s string) string { return lookupPath(s) }

// parseHead reads what stands before the splat.
func (p *pattern) parseHead(head string) error {
	for head != "" {
		before, holder, after := cutHolder(head)
		if before != "" {
			p.parts = append(p.parts, part{text: literalText(before)})
		}
		if holder == "" {
			return nil
		}
		if len(p.holders) == maxHolders {
			return mistakef("", "it has more than %d placeholders", maxHolders)
		}
		if slices.Contains(p.holders, holder) {
			return mistakef("", "it has the placeholder :%s twice", holder)
		}
		if holder == "splat" {
			return mistakef("", ":splat is what the * matched: give the placeholder another name")
		}
		end := strings.IndexByte(after, '/')
		if end < 0 {
			end = len(after)
		}
		p.holders = append(p.holders, holder)
		p.parts = append(p.parts, part{holder: true, text: literalText(after[:end])})
		head = after[end:]
	}
	return nil
}

// cutHolder cuts a text at its first placeholder: a segment that begins with a colon and a letter. holder is empty if
// there is none.
func cutHolder(s string) (before, holder, after string) {
	for i := 0; i < len(s); i++ {
		if s[i] != ':' || (i > 0 && s[i-1] != '/') {
			continue
		}
		if name := holderName(s[i+1:]); name != "" {
			return s[:i], name, s[i+1+len(name):]
		}
	}
	return s, "", ""
}

// holderName returns the name at the beginning of a text: a letter, then letters, digits and _.
func holderName(s string) string {
	for i := range len(s) {
		c := rune(s[i])
		if !lower(c) && !upper(c) && (i == 0 || (!digit(c) && c != '_')) {
			return s[:i]
		}
	}
	return s
}

// match reports whether a pattern matches a path. c gets what its placeholders matched, if it isn't nil.
func (p *pattern) match(path string, c *captures) bool {
	holder := 0
	for i := range p.parts {
		part := &p.parts[i]
		if !part.holder {
			rest, ok := strings.CutPrefix(path, part.text)
			if !ok {
				return p.folder(i, path)
			}
			path = rest
			continue
		}
		end := strings.IndexByte(path, '/')
		if end < 0 {
			end = len(path)
		}
		value, ok := strings.CutSuffix(path[:end], part.text)
		if !ok || value == "" {
			return false
		}
		if c != nil {
			c.holders[holder] = value
		}
		holder++
		path = path[end:]
	}
	if !p.splat {
		return path == ""
	}
	value, ok := strings.CutSuffix(path, p.suffix)
	if ok && c != nil {
		c.splat = value
	}
	return ok
}

// folder reports whether a path is the folder whose content a pattern matches: /news/* matches /news too. path is what
// is left of it for part i.
func (p *pattern) folder(i int, path string) bool {
	last := p.parts[len(p.parts)-1].text
	return i == len(p.parts)-1 && p.splat && p.suffix == "" && len(last) == len(path)+1 && last[len(path)] == '/' &&
		last[:len(path)] == path
}

// exact returns the only path that a pattern matches; ok is false if there are more.
func (p *pattern) exact() (path string, ok bool) {
	if p.splat || len(p.holders) > 0 {
		return "", false
	}
	return p.parts[0].text, true
}

// within returns a folder, without the slash at its end, in which all that a pattern matches lies, or which it is.
func (p *pattern) within() string {
	text := p.parts[0].text // a pattern begins with a slash, so the first part is literal
	return text[:strings.LastIndexByte(text, '/')]
}

// narrower compares patterns that match the same path: it is positive if p is the narrower one, zero if they are equal.
// One path is narrower than placeholders, those than a splat; then what has more literal text is.
func (p *pattern) narrower(q *pattern) int {
	rank := func(p *pattern) int {
		switch {
		case p.splat:
			return 0
		case len(p.holders) > 0:
			return 1
		}
		return 2
	}
	if d := rank(p) - rank(q); d != 0 {
		return d
	}
	return p.literal - q.literal
}

// example returns a path that a pattern matches, and that no narrower one should match but by chance. A splat has the
// value of splat.
func (p *pattern) example(splat string) string {
	var b strings.Builder
	for i := range p.parts {
		if p.parts[i].holder {
			b.WriteString("~any~")
		}
		b.WriteString(p.parts[i].text)
	}
	if p.splat {
		b.WriteString(splat + p.suffix)
	}
	return b.String()
}

// shorten cuts a text that stands in a message.
func shorten(s string) string {
	const most = 60
	runes := []rune(s)
	if len(runes) <= most {
		return s
	}
	return string(runes[:most]) + "..."
}
