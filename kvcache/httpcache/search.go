package httpcache

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/dunglas/httpsfv"

	"millrace/node"
)

// Search says which parameters of a query a response doesn't depend on (draft-ietf-httpbis-no-vary-search). With the
// zero value it depends on all of them and their order.
type Search struct {
	KeyOrder bool     // the order of different keys doesn't matter
	All      bool     // no parameter matters, except Except
	Except   []string // parameters that matter, with All
	Params   []string // parameters that don't matter
}

// ParseNoVarySearch parses No-Vary-Search. ok is false if the field is missing or invalid.
func ParseNoVarySearch(h node.Header) (Search, bool) {
	lines := h.Values("No-Vary-Search")
	if len(lines) == 0 {
		return Search{}, false
	}
	dict, err := httpsfv.UnmarshalDictionary(lines)
	if err != nil {
		return Search{}, false
	}
	var s Search
	for _, name := range dict.Names() {
		member, _ := dict.Get(name)
		if !s.add(name, member) {
			return Search{}, false
		}
	}
	if slices.Contains(dict.Names(), "except") && !s.All {
		return Search{}, false
	}
	return s, s.KeyOrder || s.All || len(s.Params) > 0
}

// add adds a member of the dictionary. It reports false if the member has the wrong type. Unknown members are ignored.
func (s *Search) add(name string, member httpsfv.Member) (ok bool) {
	list, isList := member.(httpsfv.InnerList)
	item, _ := member.(httpsfv.Item)
	yes, isBool := item.Value.(bool)
	switch {
	case name == "key-order":
		s.KeyOrder = yes
		return isBool
	case name == "params" && isList:
		s.Params, ok = innerNames(list)
		return ok
	case name == "params":
		s.All = yes
		return isBool
	case name == "except":
		s.Except, ok = innerNames(list)
		return ok && isList
	}
	return true
}

// innerNames decodes names of parameters, which are encoded as in a query.
func innerNames(list httpsfv.InnerList) ([]string, bool) {
	var out []string
	for _, item := range list.Items {
		text, ok := item.Value.(string)
		if !ok {
			return nil, false
		}
		out = append(out, decodeName(text))
	}
	return out, true
}

// String formats the rule as a No-Vary-Search value.
func (s Search) String() string {
	var out []string
	if s.KeyOrder {
		out = append(out, "key-order")
	}
	quoted := func(names []string) string {
		var b []byte
		for _, name := range names {
			b = append(append(append(b, ` "`...), url.QueryEscape(name)...), '"')
		}
		return "(" + strings.TrimPrefix(string(b), " ") + ")"
	}
	if s.All {
		out = append(out, "params")
	} else if len(s.Params) > 0 {
		out = append(out, "params="+quoted(s.Params))
	}
	if len(s.Except) > 0 {
		out = append(out, "except="+quoted(s.Except))
	}
	return strings.Join(out, ", ")
}

// SearchHeader returns a header with a rule from String.
func SearchHeader(rule string) node.Header {
	return node.Header{{Name: "No-Vary-Search", Value: rule}}
}

// Reduce returns the part of a query that matters, with its question mark. Parameters are compared decoded, as the
// draft says. The order of the values of one key always matters.
func (s Search) Reduce(query string) string {
	if query == "" {
		return ""
	}
	var kept []string
	for param := range strings.SplitSeq(query[1:], "&") {
		if param != "" && s.counts(paramName(param)) {
			kept = append(kept, param)
		}
	}
	if s.KeyOrder {
		SortParams(kept)
	}
	if len(kept) == 0 {
		return ""
	}
	return "?" + strings.Join(kept, "&")
}

func (s Search) counts(name string) bool {
	if s.All {
		return slices.Contains(s.Except, name)
	}
	return !slices.Contains(s.Params, name)
}

// SortParams sorts parameters by their decoded names. Values of one name keep their order.
func SortParams(params []string) {
	slices.SortStableFunc(params, func(a, b string) int { return strings.Compare(paramName(a), paramName(b)) })
}

func paramName(param string) string {
	name, _, _ := strings.Cut(param, "=")
	return decodeName(name)
}

// decodeName decodes a form-encoded name, leniently as browsers do: an invalid escape stays as it is.
func decodeName(s string) string {
	if !strings.ContainsAny(s, "%+") {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '+' {
			c = ' '
		}
		if c == '%' && i+2 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				c, i = byte(n), i+2
			}
		}
		b = append(b, c)
	}
	return string(b)
}

// ParamName returns the decoded name of a query parameter such as a%62=1.
func ParamName(param string) string { return paramName(param) }
