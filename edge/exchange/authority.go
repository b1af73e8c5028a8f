package exchange

import (
	"errors"
	"strings"

	"millrace/mesh"
	"millrace/node"
	"millrace/node/http1"
)

var errHostCount = errors.New("not exactly one Host")

// setAuthority sets Scheme and Host. Host gets one canonical spelling, which routing, cache keys, forwarding and
// X-Forwarded-Host all use. A trusted proxy's X-Forwarded-Proto and X-Forwarded-Host take precedence. authority is that
// of an absolute-form target, which overrides the Host field (RFC 9112 §3.2.2).
func (x *Exchange) setAuthority(authority string) (err error) {
	var field *mesh.Field // the Host field, which gets the canonical spelling too
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
		host, err := http1.CanonicalAuthority(firstEntry(x.Header.Get("X-Forwarded-Host")), x.Scheme)
		if err == nil && host != "" {
			x.Host = host
		}
	}
	if field != nil {
		field.Value = x.Host
	}
	return nil
}

// forwardedScheme returns the scheme that the client used, according to a trusted proxy. In a list the first entry is
// the client's.
func forwardedScheme(x *Exchange) string {
	switch strings.ToLower(firstEntry(x.Header.Get("X-Forwarded-Proto"))) {
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

func firstEntry(list string) string {
	first, _, _ := strings.Cut(list, ",")
	return strings.Trim(first, " \t")
}
