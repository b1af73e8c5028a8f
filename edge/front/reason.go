package front

import (
	"net/http"

	"millrace/mesh"
)

// reasonOf returns the reason phrase of a response: that of its origin, or the registered one of its status. It is
// empty for a status that isn't registered; the phrase is optional (RFC 9112 §4).
func reasonOf(resp *mesh.Response) string {
	if resp.Reason != "" {
		return resp.Reason
	}
	return http.StatusText(resp.Status)
}

// noReason is set for an empty reason phrase, because fasthttp replaces an empty one by its own.
const noReason = " "
