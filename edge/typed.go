package edge

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"millrace/node"
)

var errNeither = errors.New("it is neither a path, such as /items/7, nor a URL, such as http://shop.example/items/7")

// typed is a request target as people write it, taken apart.
type typed struct {
	origin string // with its scheme; empty for a path alone
	path   string
	query  string // with its question mark
}

// readTyped takes a path or URL apart and encodes what clients encode before they send it: /café, /a b, ?q=é. It fails
// where no client would send such a request.
func readTyped(s string) (w typed, err error) {
	rest := s
	if !strings.HasPrefix(s, "/") {
		scheme, authority, after, ok := cutOrigin(s, "/?#")
		if !ok {
			return typed{}, errNeither
		}
		w.origin, rest = scheme+"://"+authority, after
	}
	w.path, w.query = cutQuery(rest)
	if w.path, err = node.EncodeWritten(w.path); err != nil {
		return typed{}, err //nolint:wrapcheck // it says all
	}
	w.query, err = encodeQuery(w.query)
	return w, err
}

// encodeQuery encodes what can't stand in a query as it is (RFC 3986 §3.4).
func encodeQuery(query string) (string, error) {
	var b strings.Builder
	for i := range len(query) {
		switch c := query[i]; {
		case c == '#':
			return "", node.ErrFragment
		case c < ' ' || c == 0x7f:
			return "", fmt.Errorf("character %q can't be in a query", c)
		case c == ' ' || c > 0x7f:
			fmt.Fprintf(&b, "%%%02X", c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), nil
}

// PurgeTarget gives the canonical form of a path, a URL, or the beginning of one, as people write it. It fails with
// what to write instead where nothing could be stored for it, and for what looks like a pattern: a purge of it would be
// answered and reach nothing.
func PurgeTarget(s string) (string, error) {
	w, err := readTyped(s)
	if err != nil {
		return "", err
	}
	if begin, wild := beforeWildcard(w.path, w.query); wild {
		return "", fmt.Errorf("a purge has no wildcards or parameters: what begins so is reached by a prefix "+
			"(--prefix %s), and a * itself is written %%2A", w.origin+begin)
	}
	scheme, authority, _ := strings.Cut(w.origin, "://")
	if _, err := canonicalAuthority(authority, strings.ToLower(scheme)); err != nil {
		var host node.Host
		if err := host.UnmarshalText([]byte(authority)); err != nil {
			return "", err //nolint:wrapcheck // it says all
		}
		return "", fmt.Errorf("%q is not a host with its port", authority)
	}
	canonical, _, err := node.CanonicalPath(w.path)
	if errors.Is(err, node.ErrDotSegments) {
		return "", fmt.Errorf("%w, which clients resolve before they ask: write %s", err,
			w.origin+path.Clean(w.path)+w.query)
	}
	return w.origin + canonical + w.query, err //nolint:wrapcheck // it says all
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
