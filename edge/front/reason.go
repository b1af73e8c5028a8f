package front

import (
	"net/http"

	"millrace/mesh"
)

// reasonOf gives the reason phrase of a response: that of its origin, or the usual one of its status. A status that
// nobody has registered has none, and none is made up: it is optional (RFC 9112 §4).
func reasonOf(resp *mesh.Response) string {
	if resp.Reason != "" {
		return resp.Reason
	}
	return http.StatusText(resp.Status)
}

// noReason stands for a reason phrase that is empty, in place of which fasthttp would write one of its own.
const noReason = " "
