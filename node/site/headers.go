package site

import (
	"errors"
	"fmt"
	"strings"

	"millrace/node"
	"millrace/node/http1"
)

// Limits of the fields that rules set. They keep the head of every response within what clients take.
const (
	maxRuleFields  = 64
	maxFieldName   = 128
	maxFieldValue  = 8 << 10
	maxFieldsBytes = 32 << 10 // of all fields that one response may have from rules
)

// ParseHeaders reads a file _headers, for which name stands in the mistakes. A line at the margin is a path, with
// placeholders such as :year and one *. The lines below it are indented: "Name: value" sets a field, "! Name" removes
// one. It takes what Netlify and Cloudflare Pages have in common. The rules are in the order of the file, without those
// that are wrong.
func ParseHeaders(name string, text []byte) ([]HeaderRule, []Mistake) {
	p := headerParser{mistakes: mistakes{file: name}, seen: map[string]map[string]int{}}
	lines(text, p.line)
	p.end()
	if err := fieldsFit(p.rules); err != nil && len(p.rules) > 0 {
		p.report(line{number: p.rules[len(p.rules)-1].Line}, 0, err)
	}
	return p.rules, p.sorted()
}

// headerParser reads _headers line by line.
type headerParser struct {
	mistakes

	rules []HeaderRule
	seen  map[string]map[string]int // the line that set a field, by path and name in lower case

	open    bool // a path was read, and fields belong to it
	bad     bool // something of it was reported
	path    line
	rule    HeaderRule
	pattern pattern
}

func (p *headerParser) line(l line) {
	first := l.words()
	indented := l.text[0] == ' ' || l.text[0] == '\t'
	switch {
	case !indented:
		p.end()
		p.begin(l, first)
	case !p.open && strings.HasPrefix(first[0].text, "/"):
		p.report(l, first[0].at, mistakef("paths begin at the margin", "the path is indented"))
	case !p.open:
		p.report(l, first[0].at, mistakef("", "the field stands before any path"))
	default:
		p.field(l, first[0].at)
	}
}

// begin takes a path.
func (p *headerParser) begin(l line, words []word) {
	p.open, p.bad, p.path, p.rule = true, true, l, HeaderRule{Line: l.number}
	if !strings.HasPrefix(l.text, "/") && !strings.Contains(words[0].text, "://") && strings.Contains(l.text, ":") {
		p.report(l, 0, mistakef("indent the fields of a path", "%q isn't a path", shorten(words[0].text)))
		return
	}
	if len(words) > 1 {
		p.report(l, words[1].at, mistakef("write %20 for a blank in a path", "something follows the path"))
		return
	}
	text, pattern, err := parsePattern(words[0].text)
	if err != nil {
		p.report(l, 0, err)
		return
	}
	p.rule.Path, p.pattern, p.bad = text, pattern, false
}

// field takes a field of the path that was read last.
func (p *headerParser) field(l line, at int) {
	f, remove, err := parseField(l.text[at:])
	if err == nil && !remove {
		err = p.noHolders(f.Value)
	}
	switch {
	case err != nil:
		p.report(l, at, err)
		p.bad = true
		return
	case p.bad:
		return
	}
	p.again(l, at, f.Name)
	if remove {
		p.rule.Unset = append(p.rule.Unset, f.Name)
	} else {
		p.rule.Set = append(p.rule.Set, f)
	}
}

// again warns of a field that an earlier block for the same path has.
func (p *headerParser) again(l line, at int, name string) {
	name = strings.ToLower(name)
	lines := p.seen[p.rule.Path]
	if lines == nil {
		lines = map[string]int{}
		p.seen[p.rule.Path] = lines
	}
	if before := lines[name]; before != 0 && before < p.rule.Line {
		p.warn(l, at, mistakef("", "line %d says something about this field for the same path: this line counts",
			before))
	}
	lines[name] = l.number
}

// noHolders returns an error for a value in which a placeholder was meant to be replaced.
func (p *headerParser) noHolders(value string) error {
	for _, name := range append([]string{"splat"}, p.pattern.holders...) {
		if strings.Contains(value, ":"+name) && (name != "splat" || p.pattern.splat) {
			return mistakef("", "the value has :%s, and placeholders aren't replaced in values", name)
		}
	}
	return nil
}

// end takes what was read of a path.
func (p *headerParser) end() {
	if !p.open || p.bad {
		p.open = false
		return
	}
	p.open = false
	switch {
	case p.rule.fields() == 0:
		p.report(p.path, 0, mistakef("indent them below it", "the path has no fields"))
	case len(p.rules) == MaxRules:
		p.report(p.path, 0, errTooManyRules)
	case p.rule.fields() > maxRuleFields:
		p.report(p.path, 0, errTooManyFields)
	default:
		p.rules = append(p.rules, p.rule)
	}
}

// parseField reads "Name: value" or "! Name".
func parseField(s string) (f HeaderField, remove bool, err error) {
	if name, ok := strings.CutPrefix(s, "!"); ok {
		f.Name = strings.TrimSpace(name)
		return f, true, checkUnset(f.Name)
	}
	name, value, ok := strings.Cut(s, ":")
	if !ok {
		return f, false, mistakef("write Name: value, or ! Name", "%q isn't a field", shorten(s))
	}
	f = HeaderField{Name: strings.TrimRight(name, " \t"), Value: strings.Trim(value, " \t")}
	return f, false, checkSet(f)
}

var errTooManyFields = fmt.Errorf("more than %d fields in one rule", maxRuleFields)

// refused are the fields that no rule may set or remove, with the reason. See fieldRefused for hop-by-hop fields.
var refused = map[string]string{
	"content-length": "the node frames responses", "content-encoding": "the node chooses the coding",
	"content-range": "the node answers ranges", "accept-ranges": "the node answers ranges",
	"date": "the node writes it", "age": "the node writes it", "cache-status": "the node writes it",
	"etag": "the tag follows from the content", "last-modified": "the tag follows from the content",
	"location": "write a rule in _redirects", "status": "write a rule in _redirects",
	"alt-svc": "the node knows how it is reached", "server": "the node writes it", "via": "the node writes it",
	"basic-auth":             "it would be sent to everybody: protect the route instead",
	"service-worker-allowed": "a site's workers are for its own path only",
	"allow":                  "the node answers methods", "http2-settings": "the node frames responses",
}

// fieldRefused returns why no rule may name a field.
func fieldRefused(name string) error {
	switch {
	case name == "" || len(name) > maxFieldName || node.Odd(name) && !token(name):
		return mistakef("", "%q is not a header field name", shorten(name))
	case node.Hop(name):
		return mistakef("", "%s can't be set: the node frames responses", name)
	}
	if why := refused[strings.ToLower(name)]; why != "" {
		return mistakef("", "%s can't be set: %s", name, why)
	}
	return nil
}

// token reports whether a name is one of RFC 9110 §5.6.2.
func token(name string) bool {
	return !strings.ContainsFunc(name, func(c rune) bool {
		return !digit(c) && !lower(c) && !upper(c) && !strings.ContainsRune("!#$%&'*+-.^_`|~", c)
	})
}

// checkUnset returns why a rule may not remove a field.
func checkUnset(name string) error {
	if http1.OneOf(name, "Vary", "X-Content-Type-Options", "Content-Type") {
		return mistakef("", "%s is always sent", name)
	}
	return fieldRefused(name)
}

// checkSet returns why a rule may not set a field to a value. Values are ASCII without control characters (RFC 9110
// §5.5), so that none ends its line.
func checkSet(f HeaderField) error {
	if err := fieldRefused(f.Name); err != nil {
		return err
	}
	switch {
	case f.Value == "":
		return mistakef("write ! "+f.Name+" to remove it", "%s has no value", f.Name)
	case len(f.Value) > maxFieldValue:
		return mistakef("", "the value of %s has %d bytes, more than %d", f.Name, len(f.Value), maxFieldValue)
	case http1.OneOf(f.Name, "X-Content-Type-Options") && !strings.EqualFold(f.Value, "nosniff"):
		return mistakef("", "%s is always nosniff", f.Name)
	case strings.Trim(f.Value, " \t") != f.Value:
		return mistakef("", "the value of %s has blanks around it", f.Name)
	}
	for _, c := range f.Value {
		if c < ' ' && c != '\t' || c >= 0x7f {
			return mistakef("", "the value of %s has the character %q, which fields can't have", f.Name, c)
		}
	}
	return nil
}

// checkHeaders returns what is wrong with rules that ParseHeaders can't have returned.
func checkHeaders(rules []HeaderRule) error {
	before := 0
	for i := range rules {
		r := &rules[i]
		if err := r.check(before); err != nil {
			return fmt.Errorf("header rule of line %d: %w", r.Line, err)
		}
		before = r.Line
	}
	return fieldsFit(rules)
}

// fields returns how many fields a rule sets and removes.
func (r *HeaderRule) fields() int { return len(r.Set) + len(r.Unset) }

func (r *HeaderRule) check(before int) error {
	text, _, err := parsePattern(r.Path)
	switch {
	case err != nil:
		return err
	case text != r.Path || strings.ContainsAny(text, " \t"):
		return errors.New("its path isn't in its one spelling")
	case r.Line <= before:
		return errLines
	case r.fields() == 0:
		return errors.New("it has no fields")
	case r.fields() > maxRuleFields:
		return errTooManyFields
	}
	for _, f := range r.Set {
		if err := checkSet(f); err != nil {
			return err
		}
	}
	for _, name := range r.Unset {
		if err := checkUnset(name); err != nil {
			return err
		}
	}
	return nil
}

// fieldsFit returns an error if a response could get more from rules than heads should have: of each field the most
// that one rule sets, since one rule decides about a field.
func fieldsFit(rules []HeaderRule) error {
	most := map[string]int{}
	for i := range rules {
		sizes := map[string]int{}
		for _, f := range rules[i].Set {
			sizes[strings.ToLower(f.Name)] += len(f.Name) + len(f.Value) + len(": \r\n")
		}
		for name, n := range sizes {
			most[name] = max(most[name], n)
		}
	}
	total := 0
	for _, n := range most {
		total += n
	}
	if total > maxFieldsBytes {
		return fmt.Errorf("the fields that one response may get have %d bytes, more than %d", total, maxFieldsBytes)
	}
	return nil
}
