package natsserver

import (
	"context"
	"slices"
	"time"
)

// seekEvery is how often the peers are looked for while JetStream has no leader.
const seekEvery = time.Second

// startSeeking begins to look for the peers whenever JetStream has no leader. The caller holds the lock.
func (s *Server) startSeeking() {
	if s.cfg.Cluster == nil || !s.stores() {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.seek(ctx)
	}()
	s.stopSeeking = func() {
		cancel()
		<-done
		s.missing.Store(nil)
	}
}

func (s *Server) seek(ctx context.Context) {
	tick := time.NewTicker(seekEvery)
	defer tick.Stop()
	for {
		if st := s.JetStreamState(); st.Store == StoreJoining && st.Leader == "" {
			missing := s.missingOf(ctx)
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

// missingOf lists the peers that don't answer.
func (s *Server) missingOf(ctx context.Context) (out []string) {
	for _, g := range s.cfg.Cluster.greetAll(ctx) {
		if g.err != nil {
			out = append(out, g.addr)
		}
	}
	return out
}

// Missing lists the peers that didn't answer when they were looked for last, which is done while JetStream has no
// leader.
func (s *Server) Missing() []string {
	if missing := s.missing.Load(); missing != nil {
		return slices.Clone(*missing)
	}
	return nil
}
