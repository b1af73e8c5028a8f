package natsserver

import "github.com/nats-io/nats-server/v2/server"

// Trouble returns, in the server's words, why JetStream stores no more although it should; "" if nothing is wrong as
// far as is known. After a failed write, a stream that stands alone answers nothing, and nothing else shows that. In a
// cluster the other servers take over, and this one turns JetStream off.
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
