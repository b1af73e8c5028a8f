package edge

import (
	"net/http"

	"millrace/mesh"
)

// reasonOf gives the reason phrase of a response: that of its origin, the usual one of its status, or that of its
// status's class.
func reasonOf(resp *mesh.Response) string {
	if resp.Reason != "" {
		return resp.Reason
	}
	if usual := http.StatusText(resp.Status); usual != "" {
		return usual
	}
	return classes[resp.Status/100%len(classes)]
}

// classes names the classes of statuses (RFC 9110 §15), for those that nobody has registered.
var classes = [...]string{"", "Informational", "Success", "Redirection", "Client Error", "Server Error", "", "", "", ""}
