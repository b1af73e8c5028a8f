package site

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// statuses are those that a rule of _redirects may have. defaultStatus is that of a rule without one: as Cloudflare has
// it, since nothing keeps a redirect that its author may not have meant for ever.
var statuses = []int{301, 302, 303, 307, 308, 200, 404}

const defaultStatus = 302

// redirect is a Redirect that was read.
type redirect struct {
	Redirect

	pattern pattern
	target  target

	// What an index found out beforehand.
	rule  string // for Answer.Rule
	fixed bool   // the target has no placeholders
	file  *Entry // that a rewrite with a fixed target sends; nil if it isn't there
}

// ParseRedirects reads a file _redirects, for which name stands in the mistakes. A line is
//
//	from to [status][!]
//
// where from is a path, with placeholders such as :year and one *, and to a path or a URL, where :year and :splat stand
// for what was matched. It takes what Netlify and Cloudflare Pages have in common, and reports what only one of them
// has: conditions, queries, other hosts. The rules are in the order of the file, without those that are wrong.
// Rules that an earlier one makes useless are warned of.
func ParseRedirects(name string, text []byte) ([]Redirect, []Mistake) {
	m := &mistakes{file: name}
	var rules []redirect
	var places []line
	lines(text, func(l line) {
		r, at, err := parseRedirect(l)
		switch {
		case err != nil:
			m.report(l, at, err)
		case len(rules) == MaxRules:
			m.report(l, 0, errTooManyRules)
		default:
			rules, places = append(rules, r), append(places, l)
		}
	})
	for i, by := range useless(rules) {
		m.warn(places[i], 0, mistakef("put the narrower rule first",
			"no request reaches this rule: line %d matches all that it does", rules[by].Line))
	}
	plain := make([]Redirect, len(rules))
	for i := range rules {
		plain[i] = rules[i].Redirect
	}
	return plain, m.sorted()
}

// parseRedirect reads one line. at is where the error is, in bytes.
func parseRedirect(l line) (r redirect, at int, err error) {
	words := l.words()
	if len(words) < 2 {
		return r, words[0].at, mistakef("write: /from /to [status]", "the rule has no target")
	}
	r.Line, r.Status = l.number, defaultStatus
	from, to, rest := words[0], words[1], words[2:]
	if r.From, r.pattern, err = parsePattern(from.text); err != nil {
		return r, from.at, err
	}
	if !strings.HasPrefix(to.text, "/") && !strings.Contains(to.text, "://") {
		if err := noCondition(to.text); err != nil {
			return r, to.at, err
		}
	}
	if len(rest) > 0 {
		if r.Status, r.Force, err = parseStatus(rest[0].text); err != nil {
			return r, rest[0].at, err
		}
	}
	if len(rest) > 1 {
		if err := noCondition(rest[1].text); err != nil {
			return r, rest[1].at, err
		}
		return r, rest[1].at, mistakef("", "nothing may follow the status: %q", shorten(rest[1].text))
	}
	if r.To, r.target, err = parseTarget(to.text, &r.pattern); err != nil {
		return r, to.at, err
	}
	return r, to.at, r.checkKind()
}

// noCondition returns an error for what Netlify takes for a condition: id=:id, Country=de.
func noCondition(s string) error {
	name, _, ok := strings.Cut(s, "=")
	switch {
	case !ok:
		return nil
	case slices.Contains([]string{"country", "language", "role", "cookie"}, strings.ToLower(name)):
		return mistakef("answer it in the page, or by a route with match", "the condition %s isn't known here", name)
	}
	return mistakef("rules see no query; a route with match can tell",
		"the parameter %s is a condition, and there are none", shorten(name))
}

func parseStatus(s string) (status int, force bool, err error) {
	number, force := strings.CutSuffix(s, "!")
	status, err = strconv.Atoi(number)
	switch {
	case err != nil && noCondition(s) != nil:
		return 0, false, noCondition(s)
	case err != nil:
		return 0, false, mistakef("write 301, 302, 303, 307, 308, 200 or 404, and ! to go before files",
			"%q is no status", shorten(s))
	case !slices.Contains(statuses, status):
		return 0, false, mistakef("use 301, 302, 303, 307, 308, 200 or 404", "status %d isn't one of a rule", status)
	}
	return status, force, nil
}

// checkKind returns what is wrong with a rule as a whole.
func (r *redirect) checkKind() error {
	switch {
	case r.rewrites() && r.target.origin != "":
		return mistakef("use a route of the configuration: to: upstream:NAME",
			"status %d sends a file of the site, and the target is a URL", r.Status)
	case r.rewrites() && !r.target.local():
		return mistakef("", "status %d sends a file of the site, which has no query and no fragment", r.Status)
	case !r.rewrites() && r.target.local() && r.From == r.To:
		return mistakef("", "the rule leads to itself")
	}
	return nil
}

// rewrites reports whether the rule sends a file, and no redirect.
func (r *redirect) rewrites() bool { return r.Status == 200 || r.Status == 404 }

// page reports whether the rule sends one page for many paths, as single-page applications do: /* /index.html 200. It
// isn't for paths of files, so that a script that is missing isn't answered with a page.
func (r *redirect) page() bool {
	to, fixed := r.target.fixed()
	return r.Status == 200 && !r.Force && r.pattern.splat && fixed && !namesFile(to)
}

// useless returns the rules that never count, with the earlier rule that always counts instead. It asks with paths that
// nothing but the rule itself and a wider one should match.
func useless(rules []redirect) map[int]int {
	found := map[int]int{}
	patterns := patternsOf(rules)
	for _, force := range []bool{true, false} { // forced rules never stand behind others
		m := newMatcher(patterns, func(i int) bool { return rules[i].Force || !force })
		for i := range rules {
			if rules[i].Force != force {
				continue
			}
			by, ok := covers(m, &rules[i].pattern, i)
			if path, one := rules[i].pattern.exact(); ok && (!rules[by].page() || (one && !namesFile(path))) {
				found[i] = by
			}
		}
	}
	return found
}

// covers returns the first pattern of m before number i that matches all examples of a pattern.
func covers(m *matcher, p *pattern, i int) (by int, ok bool) {
	for _, splat := range []string{"~a~", "~a~/~b~", "~a~.html", ""} {
		path := p.example(splat)
		first := m.first(path)
		if first < 0 || first >= i {
			return 0, false
		}
		by = max(by, first)
		if !p.splat {
			break
		}
	}
	return by, true
}

func patternsOf(rules []redirect) []pattern {
	patterns := make([]pattern, len(rules))
	for i := range rules {
		patterns[i] = rules[i].pattern
	}
	return patterns
}

// readRedirects reads rules that ParseRedirects returned, maybe on another node. It refuses what a file can't give.
func readRedirects(rules []Redirect) ([]redirect, error) {
	all := make([]redirect, len(rules))
	before := 0
	for i, r := range rules {
		read := redirect{Redirect: r}
		if err := read.read(before); err != nil {
			return nil, fmt.Errorf("redirect of line %d: %w", r.Line, err)
		}
		all[i], before = read, r.Line
	}
	return all, nil
}

func (r *redirect) read(before int) error {
	from, p, err := parsePattern(r.From)
	if err != nil {
		return err
	}
	r.pattern = p
	to, t, err := parseTarget(r.To, &r.pattern)
	if err != nil {
		return err
	}
	r.target = t
	switch {
	case r.Line <= before:
		return errLines
	case from != r.From || to != r.To || strings.ContainsAny(from+to, " \t"):
		return errors.New("it isn't in its one spelling")
	case !slices.Contains(statuses, r.Status):
		return fmt.Errorf("status %d", r.Status)
	}
	return r.checkKind()
}

var errLines = errors.New("its line isn't behind the one before")

// redirects are the rules of an index.
type redirects struct {
	rules  []redirect
	forced *matcher
	all    *matcher
}

// addRedirects enters the rules. The files must be there already.
func (x *Index) addRedirects(rules []redirect) {
	for i := range rules {
		r := &rules[i]
		r.rule = RedirectsFile + ":" + strconv.Itoa(r.Line)
		var to string
		if to, r.fixed = r.target.fixed(); r.fixed && r.rewrites() {
			r.file = x.resolve(lookupPath(to))
		}
	}
	patterns := patternsOf(rules)
	x.redirects = redirects{
		rules:  rules,
		forced: newMatcher(patterns, func(i int) bool { return rules[i].Force }),
		all:    newMatcher(patterns, func(int) bool { return true }),
	}
}

// maxTried is how many rules are tried for one path that match it and lead nowhere, so that rules can't make a request
// expensive.
const maxTried = 100

// forcedRedirect answers by the first rule with ! that matches a path.
func (x *Index) forcedRedirect(path string) Answer { return x.firstOf(x.redirects.forced, path, true) }

// redirect answers by the first rule that matches a path. Rules for what isn't found are left to Fallback: first come
// the files of other deploys, and the route's next target.
func (x *Index) redirect(path string, fallback bool) Answer {
	return x.firstOf(x.redirects.all, path, fallback)
}

// firstOf answers by the first rule of a matcher. Nearly always that is the first that matches, so only if that leads
// nowhere are all looked for.
func (x *Index) firstOf(m *matcher, path string, fallback bool) Answer {
	i := m.first(path)
	if i < 0 {
		return Answer{}
	}
	a, done := x.try(&x.redirects.rules[i], path, fallback)
	if done {
		return a
	}
	var buffer [32]int32
	for tried, i := range m.all(path, buffer[:0]) {
		if a, done = x.try(&x.redirects.rules[i], path, fallback); done || tried == maxTried {
			return a
		}
	}
	return Answer{}
}

// try answers by a rule that matches a path; done is false if the next one is to be tried.
func (x *Index) try(r *redirect, path string, fallback bool) (a Answer, done bool) {
	switch {
	case r.page() && namesFile(path):
		return Answer{}, false
	case r.Status == 404 && !r.Force && !fallback:
		return Answer{}, true
	}
	a = x.follow(r, path)
	return a, a.Status != 0
}

// follow answers by a rule that matches a path. Status is 0 if the rule leads nowhere: to the path itself, or to a file
// that isn't there.
func (x *Index) follow(r *redirect, path string) Answer {
	location, to := r.To, ""
	if r.fixed {
		to, _ = r.target.fixed()
	} else {
		var c captures
		ok := r.pattern.match(path, &c)
		if ok {
			location, to, ok = r.target.expand(&c)
		}
		if !ok {
			return Answer{}
		}
	}
	if !r.rewrites() {
		if r.target.origin == "" && lookupPath(to) == path {
			return Answer{}
		}
		return Answer{Status: r.Status, Location: location, Rule: r.rule}
	}
	e := r.file
	if !r.fixed {
		e = x.resolve(lookupPath(to))
	}
	if e == nil {
		return Answer{}
	}
	return Answer{Status: r.Status, File: e, Rule: r.rule}
}

// resolve returns the file that a path of the site means, nil if it means none: a file, a page's URL, or another
// spelling of that.
func (x *Index) resolve(path string) *Entry {
	a := x.findFile(path)
	if a.Location != "" {
		a = x.findFile(a.Location)
	}
	return a.File
}
