package admin

import "time"

// MaxConnections is how many connections the API holds at most.
const MaxConnections = maxConnections

// SetBodyTimeout changes how long a body may take.
func (s *Server) SetBodyTimeout(d time.Duration) { s.bodyTimeout = d }
