package site

import (
	"fmt"
	"maps"
	"slices"
)

// Difference is what one deploy has other than another. All lists are sorted.
type Difference struct {
	Added   []string // paths
	Changed []string // paths whose content differs; other codings of the same content don't count
	Gone    []string // paths
	// Rules that one has and the other hasn't, as lines of the files _headers and _redirects.
	HeadersAdded, HeadersGone     []string
	RedirectsAdded, RedirectsGone []string
	// The rules that both have stand in another order, which decides between rules that match the same path.
	HeadersMoved, RedirectsMoved bool
}

// Empty reports whether there is no difference.
func (d *Difference) Empty() bool {
	return len(d.Added)+len(d.Changed)+len(d.Gone)+len(d.HeadersAdded)+len(d.HeadersGone)+
		len(d.RedirectsAdded)+len(d.RedirectsGone) == 0 && !d.HeadersMoved && !d.RedirectsMoved
}

// Diff returns what b has other than a.
func Diff(a, b *Manifest) Difference {
	var d Difference
	for _, path := range slices.Sorted(maps.Keys(b.Files)) {
		before, ok := a.Files[path]
		switch {
		case !ok:
			d.Added = append(d.Added, path)
		case before.Digest != b.Files[path].Digest:
			d.Changed = append(d.Changed, path)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(a.Files)) {
		if _, ok := b.Files[path]; !ok {
			d.Gone = append(d.Gone, path)
		}
	}
	d.HeadersAdded, d.HeadersGone, d.HeadersMoved = diffLines(headerLines(a.Headers), headerLines(b.Headers))
	d.RedirectsAdded, d.RedirectsGone, d.RedirectsMoved = diffLines(redirectLines(a.Redirects),
		redirectLines(b.Redirects))
	return d
}

// diffLines returns the lines that only b has, those that only a has, and whether the others stand in another order.
func diffLines(a, b []string) (added, gone []string, moved bool) {
	added, bothB := without(b, a)
	gone, bothA := without(a, b)
	slices.Sort(added)
	slices.Sort(gone)
	return added, gone, !slices.Equal(bothA, bothB)
}

// without splits lines into those that others haven't and those that they have. A line counts as often as it is there.
func without(lines, others []string) (only, both []string) {
	count := map[string]int{}
	for _, line := range others {
		count[line]++
	}
	for _, line := range lines {
		if count[line]--; count[line] < 0 {
			only = append(only, line)
		} else {
			both = append(both, line)
		}
	}
	return only, both
}

// headerLines writes each field of each rule on a line with its path.
func headerLines(rules []HeaderRule) []string {
	var lines []string
	for i := range rules {
		for _, f := range rules[i].Set {
			lines = append(lines, rules[i].Path+" "+f.Name+": "+f.Value)
		}
		for _, name := range rules[i].Unset {
			lines = append(lines, rules[i].Path+" ! "+name)
		}
	}
	return lines
}

func redirectLines(rules []Redirect) []string {
	lines := make([]string, len(rules))
	for i := range rules {
		lines[i] = rules[i].String()
	}
	return lines
}

// String returns the rule as a line of _redirects: /old /new 301!
func (r *Redirect) String() string {
	s := fmt.Sprintf("%s %s %d", r.From, r.To, r.Status)
	if r.Force {
		return s + "!"
	}
	return s
}
