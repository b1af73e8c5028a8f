package cache

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"millrace/node"
	"millrace/node/http1"
)

// PurgeTarget returns the canonical form of a path, a URL, or the beginning of one, as people type it. It fails if
// nothing could be stored under it, and if it looks like a pattern, since a purge of it would reach nothing. The error
// says what to write instead.
func PurgeTarget(s string) (string, error) {
	w, err := http1.ReadTyped(s)
	if err != nil {
		return "", err
	}
	if begin, wild := beforeWildcard(w.Path, w.Query); wild {
		return "", fmt.Errorf("a purge has no wildcards or parameters: what begins so is reached by a prefix "+
			"(--prefix %s), and a * itself is written %%2A", w.Origin+begin)
	}
	scheme, authority, _ := strings.Cut(w.Origin, "://")
	if _, err := http1.CanonicalAuthority(authority, strings.ToLower(scheme)); err != nil {
		var host node.Host
		if err := host.UnmarshalText([]byte(authority)); err != nil {
			return "", err
		}
		return "", fmt.Errorf("%q is not a host with its port", authority)
	}
	canonical, _, err := node.CanonicalPath(w.Path)
	if errors.Is(err, node.ErrDotSegments) {
		return "", fmt.Errorf("%w, which clients resolve before they ask: write %s", err,
			w.Origin+path.Clean(w.Path)+w.Query)
	}
	return w.Origin + canonical + w.Query, err
}

// beforeWildcard looks for a wildcard or parameter of a pattern, and returns what is before it.
func beforeWildcard(p, query string) (begin string, wild bool) {
	begin = "/"
	for segment := range strings.SplitSeq(p[1:], "/") {
		if segment == "*" || segment == "**" ||
			(len(segment) > 2 && segment[0] == '{' && strings.HasSuffix(segment, "}")) {
			return begin, true
		}
		begin += segment + "/"
	}
	whole := p + query
	return strings.TrimRight(whole, "*"), strings.HasSuffix(whole, "*")
}
