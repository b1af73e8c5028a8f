package natsserver

import (
	"errors"
	"fmt"

	"github.com/nats-io/nats-server/v2/server"
)

// Reopen closes JetStream and opens it again on its directory, while all connections stay. A stream that couldn't be
// written once stays so until then, and a server whose disk was full has closed JetStream itself. What was acknowledged
// before is there afterwards.
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
		_ = srv.ShutdownJetStream() // what was opened of it
		return fmt.Errorf("open JetStream: %w", err)
	}
	return nil
}
