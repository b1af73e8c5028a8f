package cache

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"millrace/edge/exchange"
	"millrace/kvcache"
	"millrace/mesh"
	"millrace/node"
)

// purgeTimeout bounds the time of a PURGE.
const purgeTimeout = 5 * time.Second

// Purge answers the PURGE method for clients that may use it. When it returns without an error, all variants of the URL
// are gone from every node.
func (s *Cache) Purge(ctx context.Context, x *exchange.Exchange) (*mesh.Response, error) {
	allowed := false
	for _, p := range s.cfg.PurgeClients {
		allowed = allowed || p.Contains(x.Client)
	}
	if !allowed {
		return nil, node.Errorf(node.CodeForbidden, nil, "this client may not purge: see cache.purge_clients")
	}
	ctx, cancel := context.WithTimeout(ctx, purgeTimeout)
	defer cancel()
	done, err := s.store.Purge(ctx, s.URLPurges(ctx, x.Scheme+"://"+x.Host+x.Path+x.Query, false), true)
	if err != nil {
		return nil, node.Errorf(node.CodeUnavailable, err,
			"the purge can't be written, or not every node has applied it")
	}
	body := `{"sequence": ` + strconv.FormatUint(done.Sequence, 10) + `, "nodes": ` + strconv.Itoa(len(done.Nodes)) +
		"}\n"
	return &mesh.Response{
		Status: http.StatusOK, Header: mesh.Header{{Name: "Content-Type", Value: "application/json"}},
		Body: []byte(body),
	}, nil
}

// URLPurges returns the purges of one URL as clients ask for it: of its canonical form, and of what its route and
// No-Vary-Search leave of its query. There are none if url isn't a URL.
func (s *Cache) URLPurges(ctx context.Context, url string, soft bool) []kvcache.Purge {
	out := urlPurges(url, soft)
	if s == nil {
		return out
	}
	x := exchange.Imagine(s.cfg.Settings(), http.MethodGet, url, nil)
	if len(out) == 0 || x.Outcome.Refusal != nil {
		return out
	}
	get, c := s.getPolicy(x)
	if c == nil {
		return out
	}
	names, _ := c.storedNames(ctx, get)
	for _, name := range names {
		for _, p := range urlPurges(name, soft) {
			if !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	return out
}

// urlPurges returns the purges of one URL under both schemes: whether the client or a proxy spoke TLS makes no
// difference to the application.
func urlPurges(url string, soft bool) []kvcache.Purge {
	var out []kvcache.Purge
	for _, scheme := range [...]string{"http", "https"} {
		if text, ok := canonicalURL(scheme, url); ok {
			out = append(out, kvcache.Purge{Reach: kvcache.ReachURL, Text: text, Soft: soft})
		}
	}
	return out
}

// PrefixPurges returns the purges of every URL that begins with the prefix, or of every path if it begins with a slash.
func PrefixPurges(prefix string, soft bool) []kvcache.Purge {
	if strings.HasPrefix(prefix, "/") {
		return pathPurges(prefix, kvcache.ReachPrefix, soft)
	}
	out := urlPurges(prefix, soft)
	for i := range out {
		out[i].Reach = kvcache.ReachPrefix
	}
	return out
}

// PathPurges returns the purges of a path with its query on all the given origins: of its canonical form, and of what
// its routes and No-Vary-Search leave of its query. There are none if path isn't a path.
func (s *Cache) PathPurges(ctx context.Context, path string, soft bool, origins []string) []kvcache.Purge {
	out := pathPurges(path, kvcache.ReachURL, soft)
	if len(out) == 0 || s == nil {
		return nil
	}
	for _, origin := range origins {
		for _, p := range s.URLPurges(ctx, origin+path, soft) {
			for _, q := range pathPurges(PathAndQuery(p.Text), kvcache.ReachURL, soft) {
				if !slices.Contains(out, q) {
					out = append(out, q)
				}
			}
		}
	}
	return out
}

// pathPurges returns the purge of a path, or of the paths that begin with it.
func pathPurges(target string, reach kvcache.Reach, soft bool) []kvcache.Purge {
	if !strings.HasPrefix(target, "/") {
		return nil
	}
	url, ok := canonicalURL("http", "http://any"+target)
	if !ok {
		return nil
	}
	return []kvcache.Purge{{Reach: reach, Text: PathAndQuery(url), Soft: soft}}
}

// PathAndQuery returns what follows the host in a URL; empty if nothing does.
func PathAndQuery(url string) string {
	_, rest, _ := strings.Cut(url, "://")
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		return rest[i:]
	}
	return ""
}
