package natsserver

import (
	"slices"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// leaderLately is how old the last word of JetStream's leader may be for the store to count as current: it speaks every
// second.
const leaderLately = 3 * time.Second

// metaGroup is nats-server's name of the group whose leader answers for JetStream as a whole: which streams there are,
// and where.
const metaGroup = "_meta_"

// JetStreamState is what this server knows of JetStream and of who leads it.
type JetStreamState struct {
	Store Store
	// name of the server that leads; empty if none is known. A server without a cluster leads itself
	Leader string
	Heard  time.Duration // since its last word; on the leader, since a majority answered it. Zero without a cluster
	Empty  bool          // this server has never heard what JetStream has stored: its directory is new
}

// JetStreamState tells what is known of JetStream at this moment. It is current only if its leader is known and was
// heard in the last three seconds: a server that has read its own directory, or that has lost the others, takes itself
// for current, but nothing can be stored.
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

// meta is what Raft tells of JetStream's own group.
func meta(srv *server.Server) (group server.RaftzGroup, found bool) {
	status := srv.Raftz(&server.RaftzOptions{GroupFilter: metaGroup})
	if status == nil {
		return group, false
	}
	for _, groups := range *status { // of the system account, and nothing else
		if group, found = groups[metaGroup]; found {
			return group, true
		}
	}
	return group, false
}

// leaderOf gives the name of the leader, and how long ago it, or a majority of the others, was heard.
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
	if err != nil { // it is left out
		return never
	}
	return d
}

// majorityHeard is how long ago so many others were heard as make a majority with the leader.
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
