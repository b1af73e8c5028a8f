package cache

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"

	"millrace/edge/exchange"
	"millrace/kvcache"
	"millrace/kvcache/httpcache"
	"millrace/node"
	"millrace/node/http1"
)

// A cache key is its space (kvcache.KeySpace), the URL with what counts of its query, and perhaps more behind control
// characters, which no URL holds: \x01 the parts of the request that the route names, with \x03 between lines, \x02 the
// body of a QUERY, \n the fields that a response varies on.

// inSpace gives the key of a name in a space.
func inSpace(space kvcache.KeySpace, name string) []byte { return append([]byte{byte(space)}, name...) }

// appendKey writes the key of an exchange.
func (c *keying) appendKey(b []byte, x *exchange.Exchange) []byte {
	b = append(b, byte(kvcache.SpaceResponse))
	b = c.appendURL(b, x)
	for _, part := range c.cfg.Key {
		b = appendPart(b, part, x.Header)
	}
	b = appendOtherRange(appendForwarded(append(b, c.keyed...), x), x)
	if x.Method == "QUERY" {
		b = append(append(b, '\x02'), contentSum(x)...)
	}
	return b
}

// contentSum names the content of a QUERY with all that describes it: every Content-* field in every line, but for what
// frames it.
func contentSum(x *exchange.Exchange) string {
	sum := sha256.New()
	for _, f := range x.Header {
		if http1.HasPrefixFold(f.Name, "content-") && !node.SameName(f.Name, "Content-Length") {
			sum.Write([]byte(strings.ToLower(f.Name) + ":" + f.Value + "\n")) // neither holds a line's end
		}
	}
	sum.Write([]byte("\n"))
	sum.Write(x.Body)
	return hex.EncodeToString(sum.Sum(nil))
}

// appendURL writes scheme, authority, path and query.
func (c *keying) appendURL(b []byte, x *exchange.Exchange) []byte {
	b = append(append(append(b, x.Scheme...), "://"...), x.Host...)
	return append(append(b, x.Path...), c.query(x.Query)...)
}

// canonicalURL gives the one spelling of a URL, as keys have it, with that scheme. Not ok means that it isn't one.
func canonicalURL(scheme, url string) (canonical string, ok bool) {
	authority, path, query, err := http1.SplitTarget(url)
	if err != nil || authority == "" {
		return "", false
	}
	if path, _, err = node.CanonicalPath(path); err != nil {
		return "", false
	}
	if authority, err = http1.CanonicalAuthority(authority, scheme); err != nil {
		return "", false
	}
	return scheme + "://" + authority + path + query, true
}

// query gives what counts of a query, which is also what the origin gets: what doesn't count can't change the response.
func (c *keying) query(query string) string {
	q := &c.cfg.Query
	if query == "" || (len(q.Keep) == 0 && len(q.Drop) == 0 && !q.Sort) {
		return query
	}
	var kept []string
	for param := range strings.SplitSeq(query[1:], "&") {
		name := httpcache.ParamName(param)
		if (len(q.Keep) == 0 || slices.Contains(q.Keep, name)) && !slices.Contains(q.Drop, name) {
			kept = append(kept, param)
		}
	}
	if q.Sort {
		httpcache.SortParams(kept)
	}
	if len(kept) == 0 {
		return ""
	}
	return "?" + strings.Join(kept, "&")
}

// keyURL is the URL in a key.
func keyURL(key []byte) []byte {
	url := key[1:]
	if i := bytes.IndexFunc(url, func(r rune) bool { return r < ' ' }); i >= 0 {
		url = url[:i]
	}
	return url
}

// keyHost is the host in a URL, without port.
func keyHost(url string) string {
	_, rest, _ := strings.Cut(url, "://")
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		rest = rest[:i]
	}
	return http1.HostName(rest)
}

// fingerprint names what a route does, so that nodes can tell whether they do the same.
func fingerprint(r *node.Route) string {
	b, err := json.Marshal(struct {
		ID, Host, Path, To string
		Headers            map[string]string
		Cache              *node.Cache
		Gather             *node.Gather
		Rewrite            *node.Rewrite
		Redirect           *node.Redirect
		Respond            *node.Respond
	}{
		r.ID(), string(r.Host), r.Path.String(), r.To.String(), r.Match.Headers, r.Cache, r.Gather, r.Rewrite,
		r.Redirect, r.Respond,
	})
	if err != nil { // plain values always marshal
		return "?"
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}
