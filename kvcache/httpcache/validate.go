package httpcache

import (
	"net/http"
	"slices"
	"time"

	"millrace/node"
)

// NotModified reports whether a stored response answers a conditional GET or HEAD with 304 (RFC 9111 §4.3.2).
// If-None-Match decides if it is present, with weak comparison; otherwise If-Modified-Since, compared with
// Last-Modified, or with Date if there is none.
func NotModified(req *Request, status int, h node.Header, now time.Time) bool {
	if status != 200 || (req.Method != http.MethodGet && req.Method != http.MethodHead) {
		return false
	}
	if lines := req.Header.Values("If-None-Match"); len(lines) > 0 {
		return matchesAny(lines, h.Get("ETag"), sameWeakly)
	}
	dates := req.Header.Values("If-Modified-Since")
	if len(dates) != 1 { // RFC 9110 §13.1.3: ignore more than one member
		return false
	}
	since, ok := ParseDate(dates[0], now)
	if !ok {
		return false
	}
	modified, ok := ParseDate(h.Get("Last-Modified"), now)
	if !ok {
		if modified, ok = ParseDate(h.Get("Date"), now); !ok {
			return false
		}
	}
	return !modified.After(since)
}

// MatchFails reports whether a request has an If-Match that no representation with this entity tag meets (RFC 9110
// §13.1.1). The response is then 412.
func MatchFails(h node.Header, etag string) bool {
	lines := h.Values("If-Match")
	return len(lines) > 0 && !matchesAny(lines, etag, SameStrongly)
}

// omittedIn304 are the fields of a stored response that a 304 doesn't repeat, because they describe the missing body
// (RFC 9110 §15.4.5).
var omittedIn304 = []string{
	"Content-Length", "Content-Type", "Content-Encoding", "Content-Language", "Content-Range",
	"Last-Modified", "Trailer",
}

// NotModifiedHeader returns the fields of a 304 made from a stored response.
func NotModifiedHeader(h node.Header) node.Header {
	out := make(node.Header, 0, len(h))
	tagged := h.Has("ETag")
	for _, f := range h {
		if slices.ContainsFunc(omittedIn304, func(n string) bool {
			return node.SameName(n, f.Name)
		}) && (tagged || !node.SameName(f.Name, "Last-Modified")) {
			continue
		}
		out = append(out, f)
	}
	return out
}

// conditionals are the fields that make a request conditional or partial.
var conditionals = []string{"If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since", "If-Range"}

// Unconditional removes the client's conditions from a request, so that the response can be stored. A cache may ignore
// those that only an origin evaluates, If-Match and If-Unmodified-Since (RFC 9110 §13.1.1, §13.1.4). It changes h.
func Unconditional(h *node.Header) {
	h.Delete(func(f node.Field) bool {
		return slices.ContainsFunc(conditionals, func(n string) bool { return node.SameName(n, f.Name) })
	})
}

// Validators adds the conditions that ask the origin whether a stored response is still valid, with both validators if
// it has both (RFC 9111 §4.3.1).
func Validators(request *node.Header, stored node.Header) {
	if v := stored.Get("ETag"); v != "" {
		request.Add("If-None-Match", v)
	}
	if v := stored.Get("Last-Modified"); v != "" {
		request.Add("If-Modified-Since", v)
	}
}

// keptAfter304 are the fields of a stored response that a 304 doesn't replace: they describe the stored body (RFC 9111
// §3.2). Set-Cookie is for the client whose request caused the validation, not for all.
var keptAfter304 = []string{
	"Content-Length", "Content-Encoding", "Content-Type", "Content-Range", "Content-Digest",
	"Set-Cookie",
}

// Validates reports whether a 304 is about the stored response (RFC 9111 §4.3.4): its ETag must match, strongly if it
// is strong; without an ETag, its Last-Modified must be equal.
func Validates(stored, h304 node.Header) bool {
	if v := h304.Get("ETag"); v != "" {
		return v == stored.Get("ETag") || !strongETag(v) && sameWeakly(v, stored.Get("ETag"))
	}
	if v := h304.Get("Last-Modified"); v != "" {
		return v == stored.Get("Last-Modified")
	}
	return true
}

// Freshen returns the fields of a stored response after a 304 or HEAD has confirmed it: fields of the confirmation
// replace those of the same name, except those that describe the body (RFC 9111 §3.2). A confirmation without Date was
// made when it arrived (RFC 9110 §6.6.1), so the stored Date is dropped. It returns a new list.
func Freshen(stored, confirmation node.Header) node.Header {
	keeps := func(name string) bool {
		return slices.ContainsFunc(keptAfter304, func(n string) bool { return node.SameName(n, name) })
	}
	out := make(node.Header, 0, len(stored)+len(confirmation))
	for _, f := range stored {
		if keeps(f.Name) || !confirmation.Has(f.Name) && !node.SameName(f.Name, "Date") {
			out = append(out, f)
		}
	}
	for _, f := range confirmation {
		if !keeps(f.Name) {
			out = append(out, f)
		}
	}
	return out
}

// HeadEffect returns what the response to a HEAD means for the stored GET (RFC 9111 §4.3.5): it confirms it, or makes
// it invalid because validator or length differ.
func HeadEffect(stored node.Header, length int64, head node.Header) (confirms, invalidates bool) {
	for _, name := range [...]string{"ETag", "Last-Modified"} {
		if v := head.Get(name); v != "" && v != stored.Get(name) {
			return false, true
		}
	}
	if v := head.Get("Content-Length"); v != "" {
		if n, ok := position(v); !ok || n != length {
			return false, true
		}
	}
	return head.Has("ETag") || head.Has("Last-Modified"), false
}
