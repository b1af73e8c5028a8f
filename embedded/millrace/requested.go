package main

import "strings"

// requested completes what people write for a request: a path as it is, a URL as it is, shop.example/items is a URL
// without its scheme, and items/7 a path without its slash. Nothing stays nothing.
func requested(s string) string {
	first, _, _ := strings.Cut(s, "/")
	if i := strings.IndexByte(first, '?'); i >= 0 {
		first = first[:i]
	}
	switch {
	case s == "", strings.HasPrefix(s, "/"), strings.Contains(s, "://"):
		return s
	case first == "localhost", strings.ContainsAny(first, ".:"):
		return "http://" + s
	}
	return "/" + s
}
