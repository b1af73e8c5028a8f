package http1

import (
	"errors"
	"fmt"
	"strings"

	"millrace/node"
)

var errNeither = errors.New("it is neither a path, such as /items/7, nor a URL, such as http://shop.example/items/7")

// Typed is a request target as people write it, taken apart.
type Typed struct {
	Origin string // with its scheme; empty for a path alone
	Path   string
	Query  string // with its question mark
}

// ReadTyped takes a path or URL apart and encodes what clients encode before they send it: /café, /a b, ?q=é. It fails
// where no client would send such a request.
func ReadTyped(s string) (w Typed, err error) {
	rest := s
	if !strings.HasPrefix(s, "/") {
		scheme, authority, after, ok := CutOrigin(s, "/?#")
		if !ok {
			return Typed{}, errNeither
		}
		w.Origin, rest = scheme+"://"+authority, after
	}
	w.Path, w.Query = CutQuery(rest)
	if w.Path, err = node.EncodeWritten(w.Path); err != nil {
		return Typed{}, err
	}
	w.Query, err = encodeQuery(w.Query)
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
