package natsserver

import (
	"context"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Election is the state of one group, for Due.
type Election struct {
	Leader      string
	Connected   bool // to the leader
	Alive, Rank int
	Quorum      int
	Missed      time.Duration // how long the leader has been missing
	Tries       int
}

// Due reports whether it is this server's turn to hasten an election.
func Due(x Election) bool {
	now := time.Now()
	e := &elections{missed: map[string]*missed{"g": {leader: x.Leader, since: now.Add(-x.Missed), tries: x.Tries}}}
	return e.due(&group{
		name: "g", leader: x.Leader, connected: x.Connected, alive: x.Alive, rank: x.Rank, quorum: x.Quorum,
	}, now)
}

// Hasten hastens an election of JetStream's metagroup.
func (s *Server) Hasten(ctx context.Context) (remoteLeader bool, err error) {
	srv := s.current.Load()
	nc, err := nats.Connect("", nats.InProcessServer(srv), nats.UserInfo(systemUser, s.systemPassword))
	if err != nil {
		return false, err
	}
	defer nc.Close()
	e := &elections{srv: srv, self: s.cfg.Name, nc: nc, log: s.cfg.Log}
	remoteLeader = e.remoteLeaderless(ctx)[metaGroup] == 0 && len(e.remoteRoutes(ctx)) > 0
	e.hasten(&group{name: metaGroup, term: s.Term()})
	return remoteLeader, nc.Flush()
}

// Term returns the Raft term of JetStream's metagroup, which grows with each election.
func (s *Server) Term() uint64 {
	for _, groups := range *s.current.Load().Raftz(&server.RaftzOptions{GroupFilter: metaGroup}) {
		return groups[metaGroup].Term
	}
	return 0
}

// GreetingName returns the server's name in a greeting; "" if line isn't one.
func GreetingName(line []byte) string {
	g, err := parseGreeting(line)
	if err != nil {
		return ""
	}
	return g.Name
}
