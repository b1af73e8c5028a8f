package node

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/tidwall/gjson"
)

// Rest is the name of what the /* of a route matched.
const Rest = "*"

// Ref is a reference in a template: a parameter of the route, Rest, or the value of Field (a gjson path) in the result
// of Call.
type Ref struct {
	Param string
	Call  string
	Field string
}

// String returns the reference as it is written in a template.
func (r Ref) String() string {
	if r.Call != "" {
		return "{" + r.Call + "." + r.Field + "}"
	}
	return "{" + r.Param + "}"
}

// parseRef parses the text between the braces.
func parseRef(name string) (Ref, bool) {
	call, field, ofCall := strings.Cut(name, ".")
	if ofCall {
		return Ref{Call: call, Field: field}, ValidName(call) && field != ""
	}
	return Ref{Param: name}, name == Rest || validParam(name)
}

// explain returns the error message for a reference to a part of the request that templates don't support. It returns
// "" for a parameter of the route, and for a call that exists.
func (r Ref) explain(route *Route) string {
	word := cmp.Or(r.Call, r.Param)
	if slices.Contains(route.Path.Params(), r.Param) {
		return ""
	}
	if route.Gather != nil {
		if _, ok := route.Gather.Calls[r.Call]; ok {
			return ""
		}
	}
	switch strings.ToLower(word) {
	case "query", "args", "arg", "search":
		what := "the query goes along as it is"
		switch {
		case route.Origin().Kind == KindNATS:
			what = "a plain NATS request carries no query"
		case route.Gather != nil:
			what = "calls carry nothing of the client's query"
		}
		return fmt.Sprintf("%s can't be read here yet, and %s: make the value a part of the path, as {id} is in "+
			"/users/{id}", r, what)
	case "header", "headers", "cookie", "cookies":
		if route.Origin().Kind == KindNATS {
			return fmt.Sprintf("%s can't be read here yet: a subject has the parameters of the path alone, such as "+
				"{id}", r)
		}
		return fmt.Sprintf("%s can't be read here yet: fields and cookies go along as they are, with the calls of a "+
			"gather too", r)
	case "param", "params":
		return fmt.Sprintf("%s: write {%s} for the parameter of the path", r, cmp.Or(r.Field, "id"))
	case "body", "request", "req", "method", "path", "uri", "url", "client", "client_ip", "ip", "remote_addr":
		return fmt.Sprintf("%s can't be read here: a template has the parameters of the path, such as {id}, {*} for "+
			"what /* matched, and in a gather the results of calls", r)
	case "host":
		return fmt.Sprintf("%s is the client's host only as the host of a redirect's URL: https://{host}/x", r)
	}
	return ""
}

// TextIn returns the value of Field in a result if it is a string, a number, true or false.
func (r Ref) TextIn(result []byte) (text string, ok bool) {
	switch found := r.find(result); found.Type {
	case gjson.String, gjson.Number, gjson.True, gjson.False:
		return found.String(), true
	case gjson.Null, gjson.JSON:
	}
	return "", false
}

// JSONIn returns the value of Field in a result as JSON.
func (r Ref) JSONIn(result []byte) (JSON, bool) {
	found := r.find(result)
	return JSON(found.Raw), found.Exists()
}

// find looks only into valid JSON: gjson accepts anything, and unlimited nesting would exhaust the stack.
func (r Ref) find(result []byte) gjson.Result {
	if !json.Valid(result) {
		return gjson.Result{}
	}
	return gjson.GetBytes(result, r.Field)
}
