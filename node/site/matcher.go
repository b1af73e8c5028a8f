package site

import (
	"slices"
	"strings"
)

// matcher finds the patterns of a list that match a path. It looks up literal paths, and of the others only those that
// lie in a folder of the path, so that many rules cost a path little that has nothing to do with them.
type matcher struct {
	patterns []pattern
	literal  map[string][]int32 // by path
	folders  map[string][]int32 // those that aren't literal, by within()
	depth    int                // slashes in the deepest folder
}

// newMatcher returns the matcher of the patterns for which use is true. Numbers are places in the list.
func newMatcher(patterns []pattern, use func(i int) bool) *matcher {
	m := &matcher{patterns: patterns, literal: map[string][]int32{}, folders: map[string][]int32{}}
	for i := range patterns {
		if !use(i) {
			continue
		}
		if path, ok := patterns[i].exact(); ok {
			m.literal[path] = append(m.literal[path], int32(i))
			continue
		}
		folder := patterns[i].within()
		m.folders[folder] = append(m.folders[folder], int32(i))
		m.depth = max(m.depth, strings.Count(folder, "/"))
	}
	return m
}

func (m *matcher) empty() bool { return m == nil || (len(m.literal) == 0 && len(m.folders) == 0) }

// first returns the number of the first pattern that matches a path, -1 if none does.
func (m *matcher) first(path string) int {
	if m.empty() {
		return -1
	}
	best := int32(len(m.patterns)) //nolint:gosec // MaxRules fits
	if in := m.literal[path]; len(in) > 0 {
		best = in[0]
	}
	m.eachFolder(path, func(in []int32) {
		for _, i := range in {
			if i >= best {
				return
			}
			if m.patterns[i].match(path, nil) {
				best = i
				return
			}
		}
	})
	if int(best) == len(m.patterns) {
		return -1
	}
	return int(best)
}

// all appends the numbers of all patterns that match a path to found, in order.
func (m *matcher) all(path string, found []int32) []int32 {
	found = append(found, m.literal[path]...)
	m.eachFolder(path, func(in []int32) {
		for _, i := range in {
			if m.patterns[i].match(path, nil) {
				found = append(found, i)
			}
		}
	})
	slices.Sort(found)
	return found
}

// eachFolder visits the patterns of each folder that a path lies in, and of the path itself.
func (m *matcher) eachFolder(path string, visit func([]int32)) {
	if len(m.folders) == 0 {
		return
	}
	depth := 0
	for i := 0; i <= len(path); i++ {
		if i < len(path) && path[i] != '/' {
			continue
		}
		if in := m.folders[path[:i]]; in != nil {
			visit(in)
		}
		if depth++; depth > m.depth {
			return
		}
	}
}
