package http1

import (
	"errors"
	"strconv"
	"strings"

	"millrace/node"
)

// ErrHost means that a host isn't one, or that its port isn't.
var ErrHost = errors.New("malformed Host")

// CanonicalAuthority gives the one spelling of a host with or without port (RFC 3986 §6.2.2, §6.2.3): lower case, no
// port that the scheme has anyway, no zeros before it, no dot at the end. An empty host stays one. It allocates only
// for what is written otherwise.
func CanonicalAuthority(s, scheme string) (string, error) {
	if plainName(s) {
		return s, nil
	}
	host, port := s, ""
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasSuffix(s, "]") {
		host, port = s[:i], strings.TrimLeft(s[i+1:], "0")
		if _, err := strconv.ParseUint(port, 10, 16); err != nil && i+1 < len(s) {
			return "", ErrHost
		}
	}
	host = strings.TrimSuffix(host, ".")
	if !validHost(host) || (host == "" && s != "") {
		return "", ErrHost
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

// HostName is a canonical authority without its port.
func HostName(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		host = host[:i]
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
