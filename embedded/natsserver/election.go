package natsserver

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// nats-server waits 4 to 9 s for a leader's word before it elects another, and has no option for that. But the others
// know at once when the process of a leader has ended, since its connections close, and soon when its machine is gone,
// since pings aren't answered. So they hasten the elections of groups whose leader has gone, and after a cold start of
// those that have none: they send the group a request for votes of a later term that nobody can grant, since its
// sender's log is empty. As Raft demands, that makes every member leave the old term, and those with newer logs stand
// for election themselves within 100 to 800 ms. It's safe whenever it comes: at worst a leader that lives is elected
// once more.
const (
	electionTick = 100 * time.Millisecond
	// after another server has come or gone; then nats-server's own elections are over as well.
	electionWatch = 20 * time.Second
	// that the second of those who are left gives the first to do it, and the third the second.
	electionRank  = 300 * time.Millisecond
	electionNone  = 300 * time.Millisecond  // how long a majority of a group knows no leader before that is strange
	electionAgain = 1200 * time.Millisecond // after a try that has brought none, and twice as long after the next
	electionTries = 3                       // for one leader that has gone, or none that there is
)

// elections hastens those of JetStream's groups. One goroutine uses it.
type elections struct {
	srv  *server.Server
	self string
	nc   *nats.Conn // in the system account
	log  *slog.Logger

	missed map[string]*missed // by group
}

// missed is a leader that is missing.
type missed struct {
	leader string // empty if none is known
	since  time.Time
	tries  int // that were made to have another elected
}

// group is one of JetStream's groups that this server is a member of and doesn't lead.
type group struct {
	name    string
	account string
	leader  string // its server's name; empty if none is known
	near    bool   // this server is connected to the leader
	alive   int    // members that this server is connected to, itself included
	rank    int    // of this server among them
	quorum  int
	term    uint64
}

// startElections begins to hasten elections, if this server takes part in them. The caller holds the lock.
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

// run watches until ctx ends. It looks at the groups only for a while after servers have come or gone.
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

// check hastens the elections that it is this server's turn to hasten, if the others don't reach the leader, or know of
// none, either.
func (e *elections) check(ctx context.Context, now time.Time) {
	var due []group
	for _, g := range e.groups(e.near()) {
		if e.due(&g, now) {
			due = append(due, g)
		}
	}
	if len(due) == 0 {
		return
	}
	near, without := e.farRoutes(ctx), e.farLeaderless(ctx)
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

// due reports whether a group's leader is missing for so long that it is this server's turn to have another elected.
func (e *elections) due(g *group, now time.Time) bool {
	if g.near {
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
	case g.leader == "": // here the others can't be seen to have done it
		wait = electionNone + time.Duration(g.rank)*electionAgain
	}
	return now.Sub(m.since) >= wait && m.tries < electionTries && g.alive >= g.quorum
}

// groups lists those in which this server may vote and that it doesn't lead.
func (e *elections) groups(near []string) (out []group) {
	for _, account := range electionAccounts {
		status := e.srv.Raftz(&server.RaftzOptions{AccountFilter: account})
		if status == nil {
			continue
		}
		for account, groups := range *status {
			for name, info := range groups {
				if info.Leader == info.ID || info.PIndex == 0 || info.Observer {
					continue // a member whose log is empty could grant the vote
				}
				out = append(out, e.group(account, name, &info, near))
			}
		}
	}
	return out
}

// electionAccounts are those with groups: the system's, which goes without saying, and that of the streams.
var electionAccounts = [...]string{"", account} //nolint:gochecknoglobals // a constant

func (e *elections) group(account, name string, info *server.RaftzGroup, near []string) group {
	g := group{
		name: name, account: account, leader: info.Peers[info.Leader].Name, alive: 1, quorum: info.QuorumNeeded,
		term: info.Term,
	}
	g.near = g.leader != "" && slices.Contains(near, g.leader)
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
