package natsserver

import (
	"context"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Election is what is known of one group, for tests.
type Election struct {
	Leader      string
	Near        bool
	Alive, Rank int
	Quorum      int
	Missed      time.Duration // for how long it has been so
	Tries       int
}

// Due reports whether this server's turn has come to hasten an election.
func Due(x Election) bool {
	now := time.Now()
	e := &elections{missed: map[string]*missed{"g": {leader: x.Leader, since: now.Add(-x.Missed), tries: x.Tries}}}
	return e.due(&group{name: "g", leader: x.Leader, connected: x.Near, alive: x.Alive, rank: x.Rank, quorum: x.Quorum}, now)
}

// Hasten hastens the election of JetStream's own group.
func (s *Server) Hasten(ctx context.Context) (farLeader bool, err error) {
	srv := s.current.Load()
	nc, err := nats.Connect("", nats.InProcessServer(srv), nats.UserInfo(systemUser, s.systemPassword))
	if err != nil {
		return false, err
	}
	defer nc.Close()
	e := &elections{srv: srv, self: s.cfg.Name, nc: nc, log: s.cfg.Log}
	farLeader = e.remoteLeaderless(ctx)[metaGroup] == 0 && len(e.remoteRoutes(ctx)) > 0
	e.hasten(&group{name: metaGroup, term: s.Term()})
	return farLeader, nc.Flush()
}

// Term is how many elections of JetStream's own group there were.
func (s *Server) Term() uint64 {
	for _, groups := range *s.current.Load().Raftz(&server.RaftzOptions{GroupFilter: metaGroup}) {
		return groups[metaGroup].Term
	}
	return 0
}

// GreetingName is the name in the first line that a server sends; empty if that isn't a server's.
func GreetingName(line []byte) string {
	g, err := parseGreeting(line)
	if err != nil {
		return ""
	}
	return g.Name
}
