package natsserver

import (
	"slices"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// leaderLately is the greatest age of the leader's last heartbeat at which the store counts as current. Heartbeats come
// every second.
const leaderLately = 3 * time.Second

// metaGroup is nats-server's name of the group that leads JetStream as a whole: it decides which streams there are, and
// where.
const metaGroup = "_meta_"

// JetStreamState is what this server knows of JetStream and its leader.
type JetStreamState struct {
	Store Store
	// Leader is the name of the server that leads; empty if none is known. A server without a cluster leads itself.
	Leader string
	Heard  time.Duration // since its last heartbeat; on the leader, since a majority answered; zero without a cluster
	Empty  bool          // this server has never heard what JetStream has stored: its directory is new
}

// JetStreamState returns what this server knows of JetStream now. Store is StoreCurrent only if a leader is known and
// was heard within the last three seconds. A server that has read its own directory, or has lost the others, takes
// itself for current, although nothing can be stored.
func (s *Server) JetStreamState() JetStreamState {
	srv := s.current.Load()
	switch {
	case !s.stores():
		return JetStreamState{Store: StoreRemote}
	case srv == nil || !srv.JetStreamEnabled():
		return JetStreamState{Store: StoreDisabled}
	case !srv.JetStreamIsClustered():
		return JetStreamState{Store: StoreCurrent, Leader: s.cfg.Name}
	}
	st := JetStreamState{Store: StoreJoining}
	if group, ok := meta(srv); ok {
		st.Leader, st.Heard = leaderOf(&group, s.cfg.Name)
		st.Empty = group.PIndex == 0
	}
	if st.Leader != "" && st.Heard <= leaderLately && srv.JetStreamIsCurrent() {
		st.Store = StoreCurrent
	}
	return st
}

// meta returns the Raft state of metaGroup.
func meta(srv *server.Server) (group server.RaftzGroup, found bool) {
	status := srv.Raftz(&server.RaftzOptions{GroupFilter: metaGroup})
	if status == nil {
		return group, false
	}
	for _, groups := range *status { // of the system account only
		if group, found = groups[metaGroup]; found {
			return group, true
		}
	}
	return group, false
}

// leaderOf returns the name of the leader, and how long ago it was heard. If this server leads, that is how long ago a
// majority was heard.
func leaderOf(group *server.RaftzGroup, self string) (name string, heard time.Duration) {
	switch group.Leader {
	case "":
		return "", 0
	case group.ID:
		return self, majorityHeard(group)
	}
	p := group.Peers[group.Leader]
	return p.Name, lastSeen(p)
}

// never stands for a server that was never heard of.
const never = time.Duration(1<<63 - 1)

func lastSeen(p server.RaftzGroupPeer) time.Duration {
	d, err := time.ParseDuration(p.LastSeen)
	if err != nil { // the field is missing
		return never
	}
	return d
}

// majorityHeard is how long ago enough other members were heard to form a majority with the leader.
func majorityHeard(group *server.RaftzGroup) time.Duration {
	others := group.QuorumNeeded - 1
	if others < 1 {
		return 0
	}
	var ago []time.Duration
	for _, p := range group.Peers {
		ago = append(ago, lastSeen(p))
	}
	if len(ago) < others {
		return never
	}
	slices.Sort(ago)
	return ago[others-1]
}
