package node

import "strings"

// Field is one header field line. Name keeps the case it was sent in.
type Field struct{ Name, Value string }

// Header is a list of field lines in the order they were sent; fields of one name may repeat. Names compare without
// regard to case (RFC 9110 §5.1). Not safe for concurrent writing.
type Header []Field

// Get returns the value of the first field of that name, "" if there is none.
func (h Header) Get(name string) string {
	for i := range h {
		if SameName(h[i].Name, name) {
			return h[i].Value
		}
	}
	return ""
}

// Has reports whether there is a field of that name.
func (h Header) Has(name string) bool {
	for i := range h {
		if SameName(h[i].Name, name) {
			return true
		}
	}
	return false
}

// Values returns the values of all fields of that name, in order.
func (h Header) Values(name string) []string {
	var out []string
	for i := range h {
		if SameName(h[i].Name, name) {
			out = append(out, h[i].Value)
		}
	}
	return out
}

// Add appends a field.
func (h *Header) Add(name, value string) { *h = append(*h, Field{name, value}) }

// Set removes all fields of that name and appends a new one.
func (h *Header) Set(name, value string) {
	h.Del(name)
	h.Add(name, value)
}

// Del removes all fields of that name.
func (h *Header) Del(name string) {
	h.Delete(func(f Field) bool { return SameName(f.Name, name) })
}

// Delete removes the fields for which drop returns true, in place.
func (h *Header) Delete(drop func(Field) bool) {
	kept := (*h)[:0]
	for _, f := range *h {
		if !drop(f) {
			kept = append(kept, f)
		}
	}
	clear((*h)[len(kept):])
	*h = kept
}

// SameName reports whether two field names are the same, without regard to case (RFC 9110 §5.1).
func SameName(a, b string) bool { return len(a) == len(b) && strings.EqualFold(a, b) }

// HasPrefixFold reports whether s begins with the lower-case ASCII prefix, in any case.
func HasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// DropHopByHop removes hop-by-hop fields (RFC 9110 §7.6.1): Connection and the fields that it lists, Keep-Alive,
// Proxy-Connection, Proxy-Authenticate, Proxy-Authorization, TE, Trailer, Transfer-Encoding and Upgrade. It also
// removes all Millrace-* and Nats-* fields, which are never trusted. If Connection lists further fields, it returns
// their names in lower case, since they may not be trailer fields either; otherwise it allocates nothing.
func (h *Header) DropHopByHop() (listed map[string]bool) {
	found := false
	for i := range *h {
		f := &(*h)[i]
		if !Hop(f.Name) {
			continue
		}
		if found = true; SameName(f.Name, "Connection") {
			listed = listedFields(listed, f.Value)
		}
	}
	switch {
	case !found:
	case listed == nil:
		h.Delete(func(f Field) bool { return Hop(f.Name) })
	default:
		h.Delete(func(f Field) bool { return Hop(f.Name) || listed[strings.ToLower(f.Name)] })
	}
	return listed
}

// listedFields adds the fields that a Connection field lists, in lower case, except those that are dropped or kept in
// any case. The map is nil while there are none.
func listedFields(listed map[string]bool, value string) map[string]bool {
	for value != "" {
		var option string
		option, value, _ = strings.Cut(value, ",")
		option = strings.Trim(option, " \t")
		if option == "" || SameName(option, "close") || Hop(option) || alwaysKept(option) {
			continue
		}
		if listed == nil {
			listed = map[string]bool{}
		}
		listed[strings.ToLower(option)] = true
	}
	return listed
}

// alwaysKept reports whether Connection can't remove a field, because it frames or routes the message.
func alwaysKept(name string) bool {
	return SameName(name, "Host") || SameName(name, "Content-Length") || SameName(name, "Authorization") ||
		SameName(name, "X-Request-Id") || HasPrefixFold(name, "x-forwarded-")
}

// Initials is a set of ASCII letters, regardless of case. With the initials of a list of names, most other names are
// ruled out before any comparison.
type Initials uint32

// InitialsOf returns the set of the given lower-case letters.
func InitialsOf(letters string) (set Initials) {
	for i := range len(letters) {
		set |= 1 << (letters[i] - 'a')
	}
	return set
}

// Of reports whether the name, which must not be empty, begins with one of the letters.
func (set Initials) Of(name string) bool {
	letter := (name[0] | 0x20) - 'a'
	return letter < 26 && set>>letter&1 != 0
}

// hopInitials are the initials of all names for which Hop is true.
var hopInitials = InitialsOf("ckmnptu")

// Hop reports whether a field belongs to one connection, or to the mesh itself: such fields are never forwarded.
func Hop(name string) bool {
	return name != "" && hopInitials.Of(name) && (isHopByHop(name) || MeshOwn(name))
}

// plainChars are letters, digits and the hyphen.
var plainChars = func() (t [256]bool) {
	for c := range t {
		t[c] = c == '-' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
	}
	return t
}()

// Odd reports whether a field's name has any character other than letters, digits and hyphens.
func Odd(name string) bool {
	for i := range len(name) {
		if !plainChars[name[i]] {
			return true
		}
	}
	return false
}

// CGIName returns the plain name that a CGI-like program (CGI, WSGI, PHP) takes a field's name for: such programs treat
// all characters that are neither letters nor digits alike (RFC 3875 §4.1.18 says so for hyphens).
func CGIName(name string) string {
	if !Odd(name) {
		return name
	}
	return strings.Map(func(c rune) rune {
		if c < 256 && plainChars[c] {
			return c
		}
		return '-'
	}, name)
}

// TargetedField is the field that an origin sends to Millrace's cache only (RFC 9213). It controls nothing else, so the
// mesh forwards it.
const TargetedField = "Millrace-CDN-Cache-Control"

// MeshOwn reports whether a field belongs to the mesh, also in the spelling of CGI-like targets. It compares the first
// letter first, since it runs for every field of every message.
func MeshOwn(name string) bool {
	if name == "" {
		return false
	}
	switch name[0] | 0x20 {
	case 'm':
		return (HasPrefixFold(name, "millrace-") || HasPrefixFold(name, "millrace_")) && !SameName(name, TargetedField)
	case 'n':
		return HasPrefixFold(name, "nats-") || HasPrefixFold(name, "nats_")
	}
	return false
}

// isHopByHop reports whether a field belongs to one connection.
func isHopByHop(name string) bool {
	if name == "" {
		return false
	}
	switch name[0] | 0x20 {
	case 'c':
		return SameName(name, "Connection")
	case 'k':
		return SameName(name, "Keep-Alive")
	case 'p':
		return SameName(name, "Proxy-Connection") || SameName(name, "Proxy-Authenticate") ||
			SameName(name, "Proxy-Authorization")
	case 't':
		return SameName(name, "TE") || SameName(name, "Trailer") || SameName(name, "Transfer-Encoding")
	case 'u':
		return SameName(name, "Upgrade")
	}
	return false
}
