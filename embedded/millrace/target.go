package main

import "strings"

// completeTarget completes the target of a request as people write it. Paths and URLs stay as they are,
// shop.example/items gets a scheme, and items/7 gets a slash. An empty text stays empty.
func completeTarget(s string) string {
	switch {
	case s == "", strings.HasPrefix(s, "/"), strings.Contains(s, "://"):
		return s
	case looksLikeHost(s):
		return "http://" + s
	}
	return "/" + s
}

// looksLikeHost reports whether the part before the first slash looks like a host.
func looksLikeHost(s string) bool {
	first := s
	if i := strings.IndexAny(s, "/?"); i >= 0 {
		first = s[:i]
	}
	return first == "localhost" || strings.ContainsAny(first, ".:")
}

// ambiguous reports whether the text may name a host, with everything on it, as well as a path.
func ambiguous(s string) bool { return looksLikeHost(s) && !strings.ContainsAny(s, "/?") }
