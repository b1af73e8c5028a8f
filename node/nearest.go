package node

import (
	"fmt"
	"strings"
)

// Nearest returns the candidate closest to word by edit distance, or "" if none is close enough to be a typo: one
// letter in three may differ, in short words one. Case, - and _ don't count.
func Nearest(word string, candidates []string) string {
	if word == "" {
		return ""
	}
	plain := normalize(word)
	best, bestDistance := "", max(1, (len(plain)+1)/3)+1
	for _, c := range candidates {
		if apart := len(c) - len(word); apart >= bestDistance+4 || -apart >= bestDistance+4 { // at most four - and _
			continue
		}
		if d := distance(plain, normalize(c)); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// normalize maps maxBody, max-body and max_body to the same text.
func normalize(s string) string {
	return strings.ToLower(strings.Map(func(c rune) rune {
		if c == '_' || c == '-' {
			return -1
		}
		return c
	}, s))
}

// distance returns the number of bytes that are wrong, missing, superfluous, or swapped with their neighbor.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j]+cost, row[j]+1, last[j+1]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

func didYouMean(word string, candidates []string) string {
	if n := Nearest(word, candidates); n != "" {
		return fmt.Sprintf(" (did you mean %q?)", n)
	}
	return ""
}

func oneOf[T ~string](dst *T, text []byte, allowed ...T) error {
	names := make([]string, len(allowed))
	for i, a := range allowed {
		if string(a) == string(text) {
			*dst = a
			return nil
		}
		names[i] = string(a)
	}
	last := len(names) - 1
	return fmt.Errorf("%q is not known: use %s or %s%s", text, strings.Join(names[:last], ", "), names[last],
		didYouMean(string(text), names))
}
