package cache

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"millrace/node"
	"millrace/node/http1"
)

// PurgeTarget gives the canonical form of a path, a URL, or the beginning of one, as people write it. It fails with
// what to write instead where nothing could be stored for it, and for what looks like a pattern: a purge of it would be
// answered and reach nothing.
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
			return "", err //nolint:wrapcheck // it says all
		}
		return "", fmt.Errorf("%q is not a host with its port", authority)
	}
	canonical, _, err := node.CanonicalPath(w.Path)
	if errors.Is(err, node.ErrDotSegments) {
		return "", fmt.Errorf("%w, which clients resolve before they ask: write %s", err,
			w.Origin+path.Clean(w.Path)+w.Query)
	}
	return w.Origin + canonical + w.Query, err //nolint:wrapcheck // it says all
}

// beforeWildcard looks for what stands for anything in a pattern, and gives what is before it.
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
