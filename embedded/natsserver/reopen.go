package natsserver

import (
	"errors"
	"fmt"

	"github.com/nats-io/nats-server/v2/server"
)

// Reopen closes JetStream and opens it again on its directory. All connections stay. It is needed after a failed write:
// a stream stays unwritable until then, and a server whose disk was full has closed JetStream. What was acknowledged
// before is kept.
func (s *Server) Reopen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	srv := s.current.Load()
	if srv == nil || !s.stores() {
		return errors.New("reopen JetStream: it doesn't run here")
	}
	if err := srv.ShutdownJetStream(); err != nil {
		return fmt.Errorf("close JetStream: %w", err)
	}
	o := s.opts
	// A reload of the options would do the same, but ends the connections of clients whose user isn't in the options.
	err := srv.EnableJetStream(&server.JetStreamConfig{
		StoreDir: o.StoreDir, MaxMemory: o.JetStreamMaxMemory, MaxStore: o.JetStreamMaxStore,
		SyncInterval: o.SyncInterval, SyncAlways: o.SyncAlways,
		Domain: o.JetStreamDomain, Strict: !o.NoJetStreamStrict,
	})
	if err != nil {
		_ = srv.ShutdownJetStream() // closes what was opened of it
		return fmt.Errorf("open JetStream: %w", err)
	}
	return nil
}
