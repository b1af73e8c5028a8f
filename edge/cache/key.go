package cache

import (
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

// A cache key is its space (kvcache.KeySpace) and the URL with the part of its query that counts. More may follow after
// control characters, which no URL contains: \x01 the parts of the request that the route names, with \x03 between
// field lines; \x02 the body of a QUERY; \n the fields that a response varies on.

// inSpace returns the key of a name in a space.
func inSpace(space kvcache.KeySpace, name string) []byte { return append([]byte{byte(space)}, name...) }

// appendKey appends the key of an exchange.
func (c *keying) appendKey(b []byte, x *exchange.Exchange) []byte {
	b = append(b, byte(kvcache.SpaceResponse))
	b = c.appendURL(b, x)
	for _, part := range c.cfg.Key {
		b = appendRequestPart(b, part, x.Header)
	}
	b = appendOtherRange(appendForwarded(append(b, c.keySuffix...), x), x)
	if x.Method == "QUERY" {
		b = append(append(b, '\x02'), contentSum(x)...)
	}
	return b
}

// contentSum returns a hash of the content of a QUERY and of everything that describes it: every line of every
// Content-* field except Content-Length.
func contentSum(x *exchange.Exchange) string {
	sum := sha256.New()
	for _, f := range x.Header {
		if node.HasPrefixFold(f.Name, "content-") && !node.SameName(f.Name, "Content-Length") {
			sum.Write([]byte(strings.ToLower(f.Name) + ":" + f.Value + "\n")) // neither contains a line end
		}
	}
	sum.Write([]byte("\n"))
	sum.Write(x.Body)
	return hex.EncodeToString(sum.Sum(nil))
}

// appendURL appends scheme, authority, path and query.
func (c *keying) appendURL(b []byte, x *exchange.Exchange) []byte {
	b = append(append(append(b, x.Scheme...), "://"...), x.Host...)
	return append(append(b, x.Path...), c.query(x.Query)...)
}

// canonicalURL returns the one spelling of a URL that keys use, with the given scheme. ok is false if url isn't a URL.
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

// query returns the part of a query that counts. The origin gets the same, so parameters that don't count can't change
// the response.
func (c *keying) query(query string) string {
	q := &c.cfg.Query
	if query == "" || (len(q.Keep) == 0 && len(q.Drop) == 0 && !q.Sort) {
		return query
	}
	var params []string
	for param := range strings.SplitSeq(query[1:], "&") {
		name := httpcache.ParamName(param)
		if (len(q.Keep) == 0 || slices.Contains(q.Keep, name)) && !slices.Contains(q.Drop, name) {
			params = append(params, param)
		}
	}
	if q.Sort {
		httpcache.SortParams(params)
	}
	if len(params) == 0 {
		return ""
	}
	return "?" + strings.Join(params, "&")
}

// keyURL returns the URL in a key.
func keyURL(key []byte) []byte {
	url := key[1:]
	for i, c := range url {
		if c < ' ' {
			return url[:i]
		}
	}
	return url
}

// keyHost returns the host of a URL, without port.
func keyHost(url string) string {
	_, rest, _ := strings.Cut(url, "://")
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		rest = rest[:i]
	}
	return http1.HostName(rest)
}

// fingerprint returns a hash of what a route does. Nodes compare it to see whether they have the same route.
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
		r.ID(), string(r.Host), r.Path.String(), r.Origin().String(), r.Match.Headers, r.Cache, r.Gather, r.Rewrite,
		r.Redirect, r.Respond,
	})
	if err != nil { // plain values always marshal
		return "?"
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}
