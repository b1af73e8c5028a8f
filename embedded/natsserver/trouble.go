package natsserver

import "github.com/nats-io/nats-server/v2/server"

// Trouble tells, in the server's own words, why JetStream stores no more here although it should; empty if nothing is
// known of that. A stream that stands alone goes on as if nothing were wrong after a write has failed, and answers
// nothing. One of a cluster leaves its part to the others, and the server turns JetStream off.
func (s *Server) Trouble() string {
	srv := s.current.Load()
	switch {
	case srv == nil || !s.stores():
		return ""
	case !srv.JetStreamEnabled():
		return "JetStream is off"
	case srv.JetStreamIsClustered():
		return ""
	}
	if h := srv.Healthz(&server.HealthzOptions{}); h.Status != "ok" {
		return h.Error
	}
	return ""
}
