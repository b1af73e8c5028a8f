package httpcache

import (
	"net/url"
	"strings"

	"github.com/dunglas/httpsfv"

	"millrace/node"
)

// Invalidates reports whether a response to the method makes stored responses of its URI invalid (RFC 9111 §4.4): an
// unsafe method, or one that isn't known, with a status that is no error.
func Invalidates(method string, status int) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "TRACE", "QUERY", "PROPFIND", "REPORT", "SEARCH":
		return false
	}
	return status >= 200 && status < 400
}

// Invalidated lists the URIs beside the target's own that such a response makes invalid: those of Location and
// Content-Location, if they are of the same origin (RFC 9111 §4.4). target is an absolute URI.
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

// authority is the host in lower case, and the port, if it isn't the scheme's own (RFC 9110 §4.2.3).
func authority(u *url.URL) string {
	port := u.Port()
	if u.Scheme == "http" && port == "80" || u.Scheme == "https" && port == "443" {
		port = ""
	}
	return strings.ToLower(u.Hostname()) + ":" + port
}

// maxTags bounds the tags of one response, each of at most maxTag bytes.
const (
	maxTags = 64
	maxTag  = 256
)

// Tags lists what a response says that it belongs to: Cache-Tag (words between commas or spaces), Surrogate-Key and
// xkey (between spaces), and Cache-Groups, which belong to one origin (RFC 9875 §2) and so carry it before them.
func Tags(h node.Header, origin string) []string {
	var out []string
	for _, group := range groups(h.Values("Cache-Groups")) { // first, as RFC 9875 §2 says how many must count
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

// tagField names the fields of tags that belong to no origin.
func tagField(name string) bool {
	return node.SameName(name, "Cache-Tag") || node.SameName(name, "Surrogate-Key") || node.SameName(name, "xkey")
}

// GroupTag is the tag of a cache group of an origin (scheme and authority).
func GroupTag(origin, group string) string { return origin + " " + group }

// InvalidatedGroups lists the groups that an unsafe request's response makes invalid, as tags (RFC 9875 §3).
func InvalidatedGroups(h node.Header, origin string) []string {
	var out []string
	for _, group := range groups(h.Values("Cache-Group-Invalidation")) {
		out = append(out, GroupTag(origin, group))
	}
	return out
}

// groups reads a list of strings (RFC 9875 §2): at least 32 of 32 characters must count, here maxTags of maxTag.
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
