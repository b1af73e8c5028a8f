package http1

import (
	"strings"

	"millrace/node"
)

// OneOf reports whether a field name is one of others, without regard to case.
func OneOf(name string, others ...string) bool {
	for _, other := range others {
		if node.SameName(name, other) {
			return true
		}
	}
	return false
}

// MediaType gives type and subtype of a Content-Type, in lower case and without parameters.
func MediaType(contentType string) string {
	kind, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	return strings.TrimSpace(kind)
}
