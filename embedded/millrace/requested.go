package main

import "strings"

// requested completes what people write for a request: a path as it is, a URL as it is, shop.example/items is a URL
// without its scheme, and items/7 a path without its slash. Nothing stays nothing.
func requested(s string) string {
	switch {
	case s == "", strings.HasPrefix(s, "/"), strings.Contains(s, "://"):
		return s
	case isHost(s):
		return "http://" + s
	}
	return "/" + s
}

// isHost reports whether what is before the first slash looks like a host.
func isHost(s string) bool {
	first := s
	if i := strings.IndexAny(s, "/?"); i >= 0 {
		first = s[:i]
	}
	return first == "localhost" || strings.ContainsAny(first, ".:")
}

// ambiguous reports whether the text may name a host, of which everything is meant, as well as a path.
func ambiguous(s string) bool { return isHost(s) && !strings.ContainsAny(s, "/?") }
