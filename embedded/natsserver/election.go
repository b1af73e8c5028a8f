package natsserver

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// nats-server waits 4 to 9 s for a heartbeat of the leader before it elects another, and has no option to change that.
// But the other servers know earlier that the leader is gone. If its process ended, its connections close at once; if
// its machine is gone, pings stay unanswered for a few seconds. So they hasten the elections of groups whose leader is
// gone and, after a cold start, of groups that have none:
//
//  1. A server sends the group a request for votes in a later term. No member can grant it, since the log of the sender
//     is empty.
//  2. As Raft demands, each member leaves its old term on receiving it.
//  3. Members with newer logs stand for election within 100 to 800 ms.
//
// This is safe at any time. At worst a leader that is alive is elected once more.
const (
	electionTick = 100 * time.Millisecond
	// How long groups are checked after another server came or went. By then nats-server's own elections are over too.
	electionWatch = 20 * time.Second
	// How long the second of the remaining servers waits for the first to act, and the third for the second.
	electionRank  = 300 * time.Millisecond
	electionNone  = 300 * time.Millisecond  // how long a majority of a group may know no leader
	electionAgain = 1200 * time.Millisecond // from a try that elected no leader to the next; doubles with each
	electionTries = 3                       // for each leader that is gone, or for a group without one
)

// elections hastens the elections of JetStream's groups. It is used by one goroutine.
type elections struct {
	srv  *server.Server
	self string
	nc   *nats.Conn // in the system account
	log  *slog.Logger

	missed map[string]*missed // by name of the group
}

// missed is a leader that can't be reached.
type missed struct {
	leader string // empty if none is known
	since  time.Time
	tries  int // to have another elected
}

// group is one of JetStream's groups that this server is a member of and doesn't lead.
type group struct {
	name      string
	account   string
	leader    string // name of its server; empty if none is known
	connected bool   // to the leader
	alive     int    // members that this server is connected to, itself included
	rank      int    // of this server among them
	quorum    int
	term      uint64
}

// startElections starts to hasten elections, if this server takes part in them. The caller holds the lock.
func (s *Server) startElections(srv *server.Server) {
	if s.cfg.Cluster == nil || !s.stores() {
		return
	}
	nc, err := nats.Connect("", nats.InProcessServer(srv), nats.UserInfo(systemUser, s.systemPassword),
		nats.NoReconnect())
	if err != nil {
		s.cfg.Log.Warn("elections are left to their own time", "cause", err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	e := &elections{srv: srv, self: s.cfg.Name, nc: nc, log: s.cfg.Log, missed: map[string]*missed{}}
	done := make(chan struct{})
	go func() { defer close(done); e.run(ctx) }()
	s.stopElections = func() {
		cancel()
		<-done
		nc.Close()
	}
}

// run checks the groups until ctx ends, but only for a while after servers came or went.
func (e *elections) run(ctx context.Context) {
	tick := time.NewTicker(electionTick)
	defer tick.Stop()
	ends, remotes := time.Now().Add(electionWatch), e.srv.NumRemotes()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now := time.Now()
		if n := e.srv.NumRemotes(); n != remotes {
			remotes, ends = n, now.Add(electionWatch)
		}
		if now.After(ends) {
			clear(e.missed)
			continue
		}
		e.check(ctx, now)
	}
}

// check hastens the elections that this server is due to hasten. It asks the other servers that it reaches first. If
// one of them is connected to the leader, it leaves the group alone. For a group without a known leader it does so
// unless a majority of the members knows none.
func (e *elections) check(ctx context.Context, now time.Time) {
	var due []group
	for _, g := range e.groups(e.connectedServers()) {
		if e.due(&g, now) {
			due = append(due, g)
		}
	}
	if len(due) == 0 {
		return
	}
	near, without := e.remoteRoutes(ctx), e.remoteLeaderless(ctx)
	for _, g := range due {
		m := e.missed[g.name]
		m.tries, m.since = m.tries+1, now
		if slices.Contains(near, g.leader) || (g.leader == "" && without[g.name] < g.quorum) {
			continue
		}
		e.log.InfoContext(ctx, "an election is hastened, since the leader has gone", "group", g.name,
			"leader", g.leader)
		e.hasten(&g)
	}
}

// due reports whether the leader of a group has been missing for so long that it is this server's turn to hasten an
// election.
func (e *elections) due(g *group, now time.Time) bool {
	if g.connected {
		delete(e.missed, g.name)
		return false
	}
	m := e.missed[g.name]
	if m == nil || m.leader != g.leader {
		m = &missed{leader: g.leader, since: now}
		e.missed[g.name] = m
	}
	wait := time.Duration(g.rank) * electionRank
	switch {
	case m.tries > 0:
		wait += electionAgain << (m.tries - 1)
	case g.leader == "": // whether others have hastened it can't be seen here
		wait = electionNone + time.Duration(g.rank)*electionAgain
	}
	return now.Sub(m.since) >= wait && m.tries < electionTries && g.alive >= g.quorum
}

// groups returns the groups in which this server may vote and that it doesn't lead.
func (e *elections) groups(near []string) (out []group) {
	for _, account := range electionAccounts {
		status := e.srv.Raftz(&server.RaftzOptions{AccountFilter: account})
		if status == nil {
			continue
		}
		for account, groups := range *status {
			for name, info := range groups {
				if info.Leader == info.ID || info.PIndex == 0 || info.Observer {
					continue // with an empty log this server could grant the vote
				}
				out = append(out, e.group(account, name, &info, near))
			}
		}
	}
	return out
}

// electionAccounts are the accounts that have groups: the system account, which is named "", and that of the streams.
var electionAccounts = [...]string{"", account}

func (e *elections) group(account, name string, info *server.RaftzGroup, near []string) group {
	g := group{
		name: name, account: account, leader: info.Peers[info.Leader].Name, alive: 1, quorum: info.QuorumNeeded,
		term: info.Term,
	}
	g.connected = g.leader != "" && slices.Contains(near, g.leader)
	for _, p := range info.Peers {
		if !slices.Contains(near, p.Name) {
			continue
		}
		if g.alive++; p.Name < e.self {
			g.rank++
		}
	}
	return g
}
