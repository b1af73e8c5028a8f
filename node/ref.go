package node

import (
	"encoding/json"
	"strings"

	"github.com/tidwall/gjson"
)

// Rest is the name of what a route's /* matched.
const Rest = "*"

// Ref is what a template refers to: a parameter of the route, Rest, or what Field (a gjson path) finds in the result of Call.
type Ref struct {
	Param string
	Call  string
	Field string
}

// String writes the reference as it stands in a template.
func (r Ref) String() string {
	if r.Call != "" {
		return "{" + r.Call + "." + r.Field + "}"
	}
	return "{" + r.Param + "}"
}

// parseRef reads what stands between the braces.
func parseRef(name string) (Ref, bool) {
	call, field, ofCall := strings.Cut(name, ".")
	if ofCall {
		return Ref{Call: call, Field: field}, ValidName(call) && field != ""
	}
	return Ref{Param: name}, name == Rest || validParam(name)
}

// TextIn gives what Field finds in a result, if that is a text, a number, true or false.
func (r Ref) TextIn(result []byte) (text string, ok bool) {
	switch found := r.find(result); found.Type {
	case gjson.String, gjson.Number, gjson.True, gjson.False:
		return found.String(), true
	case gjson.Null, gjson.JSON:
	}
	return "", false
}

// JSONIn gives what Field finds in a result, as it stands there.
func (r Ref) JSONIn(result []byte) (JSON, bool) {
	found := r.find(result)
	return JSON(found.Raw), found.Exists()
}

// find looks into JSON only: gjson reads anything, and what is nested without end with the stack that it takes.
func (r Ref) find(result []byte) gjson.Result {
	if !json.Valid(result) {
		return gjson.Result{}
	}
	return gjson.GetBytes(result, r.Field)
}
