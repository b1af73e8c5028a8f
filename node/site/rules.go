package site

import (
	"hash/maphash"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"millrace/node"
)

// RulesApply reports whether the rules of _headers apply to responses of a status: to those below 300 and to 304. An
// error or a redirect never gets a field that was meant for a file.
func RulesApply(status int) bool { return status < 300 || status == http.StatusNotModified }

// maxRuleSets is how many Rules an index keeps. A site has a handful; its clients choose paths, and may not fill
// memory.
const maxRuleSets = 1024

// Rules are the fields that the rules of _headers which match a path set and remove together. A nil *Rules changes
// nothing. Rules don't change, and must not be changed.
type Rules struct {
	// Number tells the Rules of an index apart, from 0 on, so that heads can be kept by entry and number. It is -1 for
	// Rules beyond the first 1,024, which aren't kept.
	Number int
	Set    []HeaderField // a name may repeat
	Unset  []string      // fields that the response doesn't have, not even by default

	matched []int32
}

// Get returns the first value that is set for a field.
func (r *Rules) Get(name string) (value string, ok bool) {
	if r == nil {
		return "", false
	}
	for i := range r.Set {
		if node.SameName(r.Set[i].Name, name) {
			return r.Set[i].Value, true
		}
	}
	return "", false
}

// Removes reports whether a field is removed.
func (r *Rules) Removes(name string) bool {
	return r != nil && slices.ContainsFunc(r.Unset, func(other string) bool { return node.SameName(name, other) })
}

// headerRules are the rules of _headers of an index, and the Rules made of them so far.
type headerRules struct {
	rules    []HeaderRule
	patterns []pattern
	matcher  *matcher
	own      []atomic.Pointer[Rules] // of each entry's own URL; nil until it is asked for
	seed     maphash.Seed

	mu   sync.RWMutex        // guards what follows
	sets map[uint64][]*Rules // by the hash of matched
	n    int
}

func newHeaderRules(rules []HeaderRule, entries int) (*headerRules, error) {
	if len(rules) == 0 {
		return nil, nil //nolint:nilnil // a site without rules has none, and pays nothing for them
	}
	h := &headerRules{
		rules: rules, patterns: make([]pattern, len(rules)), own: make([]atomic.Pointer[Rules], entries),
		seed: maphash.MakeSeed(), sets: map[uint64][]*Rules{},
	}
	for i := range rules {
		_, p, err := parsePattern(rules[i].Path)
		if err != nil {
			return nil, err
		}
		h.patterns[i] = p
	}
	h.matcher = newMatcher(h.patterns, func(int) bool { return true })
	return h, nil
}

// Rules returns what the site's rules do to the response to a path that sends a file; nil if that is nothing. Rules
// match the path of the request, so one file may have others under /x and /x.html. See RulesApply for the statuses.
// It allocates nothing for a file at its own URL, nor for other paths once the same rules have matched.
func (x *Index) Rules(e *Entry, path string) *Rules {
	h := x.headers
	if h == nil {
		return nil
	}
	if e == nil || e.URL != path {
		return h.match(lookupPath(path))
	}
	own := &h.own[e.Number]
	r := own.Load()
	if r == nil { // two requests may both find that, and both store the same
		if r = h.match(path); r == nil {
			r = nothing
		}
		own.Store(r)
	}
	if r == nothing {
		return nil
	}
	return r
}

// nothing stands for nil in headerRules.own.
var nothing = &Rules{Number: -1}

// match returns the Rules of a path, nil if no rule matches it.
func (h *headerRules) match(path string) *Rules {
	var buffer [32]int32
	matched := h.matcher.all(path, buffer[:0])
	if len(matched) == 0 {
		return nil
	}
	hash := h.hash(matched)
	h.mu.RLock()
	r, full := find(h.sets[hash], matched), h.n >= maxRuleSets
	h.mu.RUnlock()
	switch {
	case r != nil:
		return r
	case full:
		return h.combine(slices.Clone(matched), -1)
	}
	return h.keep(hash, slices.Clone(matched))
}

// keep makes Rules and keeps them, unless another request was faster.
func (h *headerRules) keep(hash uint64, matched []int32) *Rules {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r := find(h.sets[hash], matched); r != nil {
		return r
	}
	if h.n >= maxRuleSets {
		return h.combine(matched, -1)
	}
	r := h.combine(matched, h.n)
	h.n++
	h.sets[hash] = append(h.sets[hash], r)
	return r
}

func find(sets []*Rules, matched []int32) *Rules {
	for _, r := range sets {
		if slices.Equal(r.matched, matched) {
			return r
		}
	}
	return nil
}

func (h *headerRules) hash(matched []int32) uint64 {
	sum := uint64(len(matched))
	for _, i := range matched {
		sum = sum*0x9e3779b97f4a7c15 ^ maphash.Comparable(h.seed, i)
	}
	return sum
}

// combine makes the Rules of rules that match the same path. The narrowest decides about a field, of equal ones the
// last.
func (h *headerRules) combine(matched []int32, number int) *Rules {
	decides := map[string]int32{}
	for _, i := range matched {
		decide := func(name string) {
			name = strings.ToLower(name)
			if other, ok := decides[name]; !ok || h.patterns[i].narrower(&h.patterns[other]) >= 0 {
				decides[name] = i
			}
		}
		for _, f := range h.rules[i].Set {
			decide(f.Name)
		}
		for _, name := range h.rules[i].Unset {
			decide(name)
		}
	}
	r := &Rules{Number: number, matched: matched}
	for _, i := range matched {
		for _, f := range h.rules[i].Set {
			if decides[strings.ToLower(f.Name)] == i {
				r.Set = append(r.Set, f)
			}
		}
	}
	for name, i := range decides {
		if _, set := r.Get(name); !set {
			at := slices.IndexFunc(h.rules[i].Unset, func(other string) bool { return node.SameName(name, other) })
			r.Unset = append(r.Unset, h.rules[i].Unset[at])
		}
	}
	slices.Sort(r.Unset)
	return r
}
