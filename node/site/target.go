package site

import (
	"slices"
	"strings"

	"millrace/node"
	"millrace/node/http1"
)

const (
	maxUses     = 16      // placeholders in a target
	maxLocation = 8 << 10 // bytes of an expanded target
)

// target is where a rule leads: a path of the site or a URL, in which placeholders stand for what the rule's path
// matched. The host is always literal, so no request can choose it.
type target struct {
	origin string  // https://example.com, empty for a path
	path   []piece // begins with a slash, unless there is an origin
	query  []piece // with its ? and #
}

// piece is literal text, or what a placeholder matched.
type piece struct {
	text   string
	holder int
}

// Values of piece.holder below those of placeholders.
const (
	pieceText  = -1
	pieceSplat = -2
)

// parseTarget reads the target of a rule with the pattern p. The text it returns is the canonical one.
func parseTarget(written string, p *pattern) (text string, t target, err error) {
	if len(written) > maxPattern {
		return "", target{}, mistakef("", "the target has %d bytes, more than %d", len(written), maxPattern)
	}
	origin, path, err := cutOrigin(written)
	if err != nil {
		return "", target{}, err
	}
	t.origin = origin
	query := ""
	if i := strings.IndexAny(path, "?#"); i >= 0 {
		path, query = path[:i], path[i:]
	}
	if path, err = encodeTargetPath(path); err != nil {
		return "", target{}, err
	}
	if query, err = encodeQuery(query); err != nil {
		return "", target{}, err
	}
	if p.splat && strings.Contains(path, "*") {
		return "", target{}, mistakef("write :splat", "the target has a *, which stands for nothing there")
	}
	if t.path, err = pieces(path, p); err != nil {
		return "", target{}, err
	}
	if t.query, err = pieces(query, p); err != nil {
		return "", target{}, err
	}
	text = t.origin + path + query
	if len(t.path)+len(t.query) > 2*maxUses || len(text) > maxPattern {
		return "", target{}, mistakef("", "the target is too long, or has more than %d placeholders", maxUses)
	}
	return text, t, nil
}

// cutOrigin cuts scheme and host from a target.
func cutOrigin(written string) (origin, rest string, err error) {
	switch scheme, after, absolute := strings.Cut(written, "://"); {
	case strings.HasPrefix(written, "//"):
		return "", "", mistakef("write https:"+shorten(written)+", or begin the path with one slash",
			"the target begins with two slashes, which is another host")
	case strings.HasPrefix(written, "/"):
		return "", written, nil
	case !absolute || (scheme != "http" && scheme != "https"):
		return "", "", mistakef("write /path or https://host/path", "the target %q is neither a path nor a URL",
			shorten(written))
	default:
		host, path := after, ""
		if i := strings.IndexAny(after, "/?#"); i >= 0 {
			host, path = after[:i], after[i:]
		}
		canonical, err := http1.CanonicalAuthority(host, scheme)
		if err != nil || canonical == "" || strings.ContainsAny(host, "*@%") {
			return "", "", mistakef("a host is written as it is: no placeholder, no user, ASCII only",
				"the target has the host %q, which is none", shorten(host))
		}
		return scheme + "://" + canonical, path, nil
	}
}

// encodeTargetPath returns the canonical form of a target's path, placeholders included.
func encodeTargetPath(path string) (string, error) {
	encoded, err := node.EncodeWritten(path)
	if err != nil {
		return "", err
	}
	canonical, _, err := node.CanonicalPath(encoded)
	if err != nil {
		return "", err
	}
	return canonical, nil
}

// encodeQuery encodes what can't stand in a query and a fragment as it is (RFC 3986 §3.4). It keeps encodings.
func encodeQuery(query string) (string, error) {
	parts := strings.Split(query, "#")
	if len(parts) > 2 {
		return "", mistakef("write %23 for the character itself", "the target has two #")
	}
	for i := range parts {
		encoded, err := node.EncodeWritten(parts[i])
		if err != nil {
			return "", err
		}
		parts[i] = encoded
	}
	return strings.Join(parts, "#"), nil
}

// pieces splits a part of a target at its placeholders. A colon before another word is text, as in /wiki/Help:Contents,
// unless it begins a segment or a value, where a placeholder was meant.
func pieces(s string, p *pattern) ([]piece, error) {
	var all []piece
	begin, uses := 0, 0
	for i := 0; i < len(s); i++ {
		if s[i] != ':' {
			continue
		}
		name := holderName(s[i+1:])
		holder := slices.Index(p.holders, name)
		if name == "splat" && p.splat {
			holder = pieceSplat
		}
		switch {
		case holder != pieceText:
			if begin < i {
				all = append(all, piece{text: s[begin:i], holder: pieceText})
			}
			all = append(all, piece{holder: holder})
			begin = i + 1 + len(name)
			uses++
		case name == "splat":
			return nil, mistakef("end the rule's path in /*", "the target has :splat, and the rule's path has no *")
		case name != "" && i > 0 && strings.IndexByte("/=", s[i-1]) >= 0:
			return nil, mistakef("write %3A for the character : itself",
				"the target has the placeholder :%s, and the rule's path hasn't", name)
		}
		i += len(name)
	}
	if begin < len(s) {
		all = append(all, piece{text: s[begin:], holder: pieceText})
	}
	if uses > maxUses {
		return nil, mistakef("", "the target has more than %d placeholders", maxUses)
	}
	return all, nil
}

// local reports whether the target is a path of the site, without query and fragment.
func (t *target) local() bool { return t.origin == "" && len(t.query) == 0 }

// fixed returns the target's path if the target has no placeholders.
func (t *target) fixed() (path string, ok bool) {
	for _, p := range t.query {
		if p.holder != pieceText {
			return "", false
		}
	}
	switch {
	case len(t.path) == 0: // https://example.com
		return "", true
	case len(t.path) > 1 || t.path[0].holder != pieceText:
		return "", false
	}
	return t.path[0].text, true
}

// expand returns the target for what its rule's path matched. A path never becomes a URL: it begins with one slash,
// whatever was matched. ok is false for what no client should get: . and .. segments put together from pieces, and more
// than maxLocation bytes.
func (t *target) expand(c *captures) (location, path string, ok bool) {
	var b strings.Builder
	for _, p := range t.path {
		if b.WriteString(c.value(p)); b.Len() > maxLocation {
			return "", "", false
		}
	}
	path = b.String()
	if strings.HasPrefix(path, "//") && t.origin == "" {
		path = "/" + strings.TrimLeft(path, "/")
	}
	canonical, _, err := node.CanonicalPath(path)
	if err != nil || canonical != path {
		return "", "", false
	}
	b.Reset()
	b.WriteString(t.origin)
	b.WriteString(path)
	for _, p := range t.query {
		v := c.value(p)
		if p.holder != pieceText {
			v = queryValue(v)
		}
		b.WriteString(v)
	}
	return b.String(), path, b.Len() <= maxLocation
}

func (c *captures) value(p piece) string {
	switch p.holder {
	case pieceText:
		return p.text
	case pieceSplat:
		return c.splat
	}
	return c.holders[p.holder]
}

// queryValue encodes what would end a value in a query, or mean a blank there. Encodings stay.
func queryValue(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; node.Unreserved(c) || c == '%' || c == '/' {
			b.WriteByte(c)
		} else {
			writeEscape(&b, c)
		}
	}
	return b.String()
}

// AddQuery adds the query of a request, without its question mark, to the location of a redirect that has none of its
// own. It goes before a fragment.
func AddQuery(location, query string) string {
	if query == "" || strings.Contains(location, "?") {
		return location
	}
	before, fragment, ok := strings.Cut(location, "#")
	if !ok {
		return location + "?" + query
	}
	return before + "?" + query + "#" + fragment
}
