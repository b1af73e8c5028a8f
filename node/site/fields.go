package site

import (
	"encoding/base64"
	"net/http"

	"millrace/node"
)

// ETag returns the entity tag of a content (RFC 9110 §8.8.3): strong, the same on every node, another for each coding.
func ETag(d node.Digest, c Coding) string {
	const bytes = 12 // 16 digits
	tag := make([]byte, 0, 24)
	tag = append(tag, '"')
	tag = base64.RawURLEncoding.AppendEncode(tag, d[:bytes])
	if c != Identity {
		tag = append(append(tag, '-'), c...)
	}
	return string(append(tag, '"'))
}

// The values of Cache-Control.
const (
	cacheForever = "public, max-age=31536000, immutable"
	cacheAsk     = "public, max-age=0, must-revalidate"
	cacheNever   = "no-store"
	cacheMoved   = "no-cache"
)

// CacheControl returns the value of Cache-Control (RFC 9111 §5.2) of a response to which no rule of _headers gives one.
// e is the file that is sent, nil for none. Only a file that is there is immutable, never an error. A redirect is asked
// for again each time, since a browser would keep it beyond a rollback.
func CacheControl(e *Entry, status int) string {
	switch {
	case status >= 300 && status < 400 && status != http.StatusNotModified:
		return cacheMoved
	case !RulesApply(status) || e == nil:
		return cacheNever
	case e.Immutable:
		return cacheForever
	}
	return cacheAsk
}
