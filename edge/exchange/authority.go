package exchange

import (
	"errors"
	"strings"

	"millrace/mesh"
	"millrace/node"
	"millrace/node/http1"
)

var errHostCount = errors.New("not exactly one Host")

// setAuthority finds scheme and host of the request, as far as trusted proxies tell them, in one canonical spelling:
// routing, cache keys, forwarding and X-Forwarded-Host all use it. authority is that of an absolute-form target, which
// overrides Host (RFC 9112 §3.2.2).
func (x *Exchange) setAuthority(authority string) (err error) {
	var field *mesh.Field // that names the host; it gets the canonical spelling too
	hosts := 0
	for i := range x.Header {
		if node.SameName(x.Header[i].Name, "Host") {
			hosts++
			field = &x.Header[i]
			x.Host = field.Value
		}
	}
	if hosts > 1 || (hosts == 0 && !x.HTTP10) {
		return errHostCount
	}
	if authority != "" {
		x.Host = authority
	}
	if x.Trusted {
		x.Scheme = forwardedScheme(x)
	}
	if x.Host, err = http1.CanonicalAuthority(x.Host, x.Scheme); err != nil {
		return err
	}
	if x.Trusted {
		host, err := http1.CanonicalAuthority(firstOf(x.Header.Get("X-Forwarded-Host")), x.Scheme)
		if err == nil && host != "" {
			x.Host = host
		}
	}
	if field != nil {
		field.Value = x.Host
	}
	return nil
}

// forwardedScheme is what a trusted proxy says of the scheme that the client used. In a list the first entry is the
// client's.
func forwardedScheme(x *Exchange) string {
	switch strings.ToLower(firstOf(x.Header.Get("X-Forwarded-Proto"))) {
	case "https", "wss":
		return "https"
	case "http", "ws":
		return "http"
	}
	if node.SameName(x.Header.Get("X-Forwarded-Ssl"), "on") {
		return "https"
	}
	return x.Scheme
}

func firstOf(list string) string {
	first, _, _ := strings.Cut(list, ",")
	return strings.Trim(first, " \t")
}
