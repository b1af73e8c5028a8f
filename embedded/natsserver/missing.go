package natsserver

import (
	"context"
	"slices"
	"time"
)

// peerCheckEvery is the interval of the checks for missing peers while JetStream has no leader.
const peerCheckEvery = time.Second

// startPeerChecks starts to look for missing peers whenever JetStream has no leader. The caller holds the lock.
func (s *Server) startPeerChecks() {
	if s.cfg.Cluster == nil || !s.stores() {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.checkPeers(ctx)
	}()
	s.stopPeerChecks = func() {
		cancel()
		<-done
		s.missing.Store(nil)
	}
}

func (s *Server) checkPeers(ctx context.Context) {
	tick := time.NewTicker(peerCheckEvery)
	defer tick.Stop()
	for {
		if st := s.JetStreamState(); st.Store == StoreJoining && st.Leader == "" {
			missing := s.missingPeers(ctx)
			s.missing.Store(&missing)
		} else {
			s.missing.Store(nil)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// missingPeers returns the peers that don't answer.
func (s *Server) missingPeers(ctx context.Context) (out []string) {
	for _, g := range s.cfg.Cluster.greetAll(ctx) {
		if g.err != nil {
			out = append(out, g.addr)
		}
	}
	return out
}

// Missing returns the peers that didn't answer the last check. Checks run while JetStream has no leader; otherwise the
// list is empty.
func (s *Server) Missing() []string {
	if missing := s.missing.Load(); missing != nil {
		return slices.Clone(*missing)
	}
	return nil
}
