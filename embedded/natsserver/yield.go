package natsserver

import "fmt"

// YieldStream gives up the leadership of a stream to another of its replicas, if this server leads it.
func (s *Server) YieldStream(name string) error {
	srv := s.current.Load()
	if srv == nil || s.cfg.Cluster == nil || !s.stores() || !srv.JetStreamIsStreamLeader(account, name) {
		return nil
	}
	if err := srv.JetStreamStepdownStream(account, name); err != nil {
		return fmt.Errorf("give up the lead of stream %s: %w", name, err)
	}
	return nil
}
