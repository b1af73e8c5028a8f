package admin

import (
	"io"
	"net/http"
	"time"
)

// MaxConnections is how many connections the API holds at most.
const MaxConnections = maxConnections

// SetBodyTimeout changes how long a body may take.
func (s *Server) SetBodyTimeout(d time.Duration) { s.bodyTimeout = d }

// TakeBlobs is takeBlobs.
var TakeBlobs = takeBlobs

// BodyOf is bodyOf for a body.
func BodyOf(w http.ResponseWriter, body io.Reader) io.Reader {
	return bodyOf(w, &http.Request{Body: io.NopCloser(body)})
}
