package httpcache

import (
	"net/url"
	"strings"

	"github.com/dunglas/httpsfv"

	"millrace/node"
)

// Invalidates reports whether a response to the method makes stored responses of its URI invalid (RFC 9111 §4.4): the
// method is unsafe or unknown, and the status isn't an error.
func Invalidates(method string, status int) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "TRACE", "QUERY", "PROPFIND", "REPORT", "SEARCH":
		return false
	}
	return status >= 200 && status < 400
}

// Invalidated returns the URIs that such a response makes invalid besides the target's: those of Location and
// Content-Location, if they have the same origin (RFC 9111 §4.4). target is an absolute URI.
func Invalidated(target string, h node.Header) []string {
	base, err := url.Parse(target)
	if err != nil {
		return nil
	}
	var out []string
	for _, name := range [...]string{"Location", "Content-Location"} {
		value := h.Get(name)
		if value == "" {
			continue
		}
		u, err := base.Parse(value)
		if err != nil || u.Scheme != base.Scheme || authority(u) != authority(base) {
			continue
		}
		u.Host, u.User, u.Fragment, u.RawFragment = base.Host, nil, "", ""
		out = append(out, u.String())
	}
	return out
}

// authority returns the host in lower case and the port, without the scheme's default port (RFC 9110 §4.2.3).
func authority(u *url.URL) string {
	port := u.Port()
	if u.Scheme == "http" && port == "80" || u.Scheme == "https" && port == "443" {
		port = ""
	}
	return strings.ToLower(u.Hostname()) + ":" + port
}

// maxTags is how many tags a response may have, each of at most maxTag bytes.
const (
	maxTags = 64
	maxTag  = 256
)

// Tags returns the tags of a response: the words of Cache-Tag, Surrogate-Key and xkey, between commas or spaces, and
// those of Cache-Groups, which are prefixed with their origin, since a group belongs to one origin (RFC 9875 §2).
func Tags(h node.Header, origin string) []string {
	var out []string
	for _, group := range groups(h.Values("Cache-Groups")) { // first: RFC 9875 §2 says how many must be supported
		out = append(out, GroupTag(origin, group))
	}
	for _, f := range h {
		if tagField(f.Name) {
			for _, tag := range strings.FieldsFunc(f.Value, func(r rune) bool {
				return r == ' ' || r == ',' || r == '\t'
			}) {
				if len(tag) <= maxTag && len(out) < maxTags {
					out = append(out, tag)
				}
			}
		}
	}
	return out
}

// tagField reports whether a field has tags that belong to no origin.
func tagField(name string) bool {
	return node.SameName(name, "Cache-Tag") || node.SameName(name, "Surrogate-Key") || node.SameName(name, "xkey")
}

// GroupTag returns the tag of a cache group of an origin (scheme and authority).
func GroupTag(origin, group string) string { return origin + " " + group }

// InvalidatedGroups returns the groups that the response to an unsafe request makes invalid, as tags (RFC 9875 §3).
func InvalidatedGroups(h node.Header, origin string) []string {
	var out []string
	for _, group := range groups(h.Values("Cache-Group-Invalidation")) {
		out = append(out, GroupTag(origin, group))
	}
	return out
}

// groups parses a list of strings (RFC 9875 §2). At least 32 groups of 32 characters must be supported; here it is
// maxTags of maxTag bytes.
func groups(lines []string) []string {
	if len(lines) == 0 {
		return nil
	}
	list, err := httpsfv.UnmarshalList(lines)
	if err != nil {
		return nil
	}
	var out []string
	for _, member := range list {
		item, ok := member.(httpsfv.Item)
		if !ok {
			continue
		}
		if text, ok := item.Value.(string); ok && len(out) < maxTags && len(text) <= maxTag {
			out = append(out, text)
		}
	}
	return out
}
