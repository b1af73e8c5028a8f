package edge

import (
	"errors"
	"strconv"
	"strings"

	"millrace/mesh"
	"millrace/node"
)

var (
	errHostCount = errors.New("not exactly one Host")
	errHost      = errors.New("malformed Host")
)

// setAuthority finds scheme and host of the request, as far as trusted proxies tell them, in one canonical spelling:
// routing, cache keys, forwarding and X-Forwarded-Host all use it. authority is that of an absolute-form target, which
// overrides Host (RFC 9112 §3.2.2).
func (x *Exchange) setAuthority(authority string) (err error) {
	var field *mesh.Field // that names the host; it gets the canonical spelling too
	hosts := 0
	for i := range x.Header {
		if equalFold(x.Header[i].Name, "Host") {
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
	if x.trusted {
		x.Scheme = forwardedScheme(x)
	}
	if x.Host, err = canonicalAuthority(x.Host, x.Scheme); err != nil {
		return err
	}
	if x.trusted {
		host, err := canonicalAuthority(firstOf(x.Header.Get("X-Forwarded-Host")), x.Scheme)
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
	if equalFold(x.Header.Get("X-Forwarded-Ssl"), "on") {
		return "https"
	}
	return x.Scheme
}

func firstOf(list string) string {
	first, _, _ := strings.Cut(list, ",")
	return strings.Trim(first, " \t")
}

// canonicalAuthority gives the one spelling of a host with or without port (RFC 3986 §6.2.2, §6.2.3): lower case, no
// port that the scheme has anyway, no zeros before it, no dot at the end. An empty host stays one. It allocates only
// for what is written otherwise.
func canonicalAuthority(s, scheme string) (string, error) {
	if plainName(s) {
		return s, nil
	}
	host, port := s, ""
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasSuffix(s, "]") {
		host, port = s[:i], strings.TrimLeft(s[i+1:], "0")
		if _, err := strconv.ParseUint(port, 10, 16); err != nil && i+1 < len(s) {
			return "", errHost
		}
	}
	host = strings.TrimSuffix(host, ".")
	if !validHost(host) || (host == "" && s != "") {
		return "", errHost
	}
	if host = strings.ToLower(host); port == "" || port == defaultPort(scheme) {
		return host, nil
	}
	if len(host)+1+len(port) == len(s) && strings.HasPrefix(s, host) {
		return s, nil
	}
	return host + ":" + port, nil
}

// plainName reports whether s is a name that is canonical already: the usual case costs one pass.
func plainName(s string) bool {
	dot := true // before s, where none may follow
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && (c != '.' || dot) {
			return false
		}
		dot = c == '.'
	}
	return !dot
}

func defaultPort(scheme string) string {
	if scheme == "https" {
		return "443"
	}
	return "80"
}

// validHost reports whether s is a host without port, as RFC 3986 §3.2.2 writes it; userinfo isn't. Names have no empty
// labels.
func validHost(s string) bool {
	if strings.HasPrefix(s, "[") {
		return strings.HasSuffix(s, "]") && strings.Trim(s, "[]0123456789abcdefABCDEF:.") == ""
	}
	for i := range len(s) {
		if c := s[i]; !node.Unreserved(c) && strings.IndexByte("!$&'()*+;=%", c) < 0 {
			return false
		}
	}
	return !strings.HasPrefix(s, ".") && !strings.HasSuffix(s, ".") && !strings.Contains(s, "..")
}

// hostName is a canonical authority without its port.
func hostName(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		host = host[:i]
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
