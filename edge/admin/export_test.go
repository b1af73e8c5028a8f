package admin

import "time"

// MaxConnections is how many connections the API holds at most.
const MaxConnections = maxConnections

// SetBodyTime gives bodies less time.
func (s *Server) SetBodyTime(d time.Duration) { s.bodyTime = d }
