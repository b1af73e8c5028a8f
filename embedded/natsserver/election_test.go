package natsserver_test

import (
	"testing"
	"time"

	"millrace/embedded/natsserver"
	"millrace/embedded/natsserver/natsservertest"
	"millrace/node/nodetest"
)

// A request for votes that no member can grant makes a group elect again at once. So nats-server understands the
// request. The member with the newest log leads.
func TestElectionIsHastened(t *testing.T) {
	servers := natsservertest.StartThree(t)
	for round := range 3 {
		before := servers[0].Term()
		known, err := servers[round].Hasten(t.Context())
		if err != nil || !known {
			t.Fatalf("the others know a leader %t, %v", known, err)
		}
		for _, s := range servers {
			nodetest.Eventually(t, "another term, and a leader", func() bool {
				return s.Term() > before && s.JetStreamState().Store == natsserver.StoreCurrent
			})
		}
	}
}

// Only one server hastens an election, and only if it has lost the leader and enough members are left to elect another.
func TestElectionDue(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what string
		due  bool
		e    natsserver.Election
	}{
		{
			"the leader is there", false,
			natsserver.Election{Leader: "a", Connected: true, Alive: 3, Quorum: 2, Missed: time.Hour},
		},
		{"it has gone", true, natsserver.Election{Leader: "a", Alive: 2, Quorum: 2}},
		{
			"it has gone, and with it the majority", false,
			natsserver.Election{Leader: "a", Alive: 1, Quorum: 2, Missed: time.Hour},
		},
		{
			"it has gone, and another is first to act", false,
			natsserver.Election{Leader: "a", Alive: 2, Quorum: 2, Rank: 1, Missed: 200 * time.Millisecond},
		},
		{
			"which it doesn't", true,
			natsserver.Election{Leader: "a", Alive: 2, Quorum: 2, Rank: 1, Missed: 400 * time.Millisecond},
		},
		{
			"there is none, but that is new", false,
			natsserver.Election{Alive: 2, Quorum: 2, Missed: 200 * time.Millisecond},
		},
		{"there is none for a while", true, natsserver.Election{Alive: 2, Quorum: 2, Missed: 400 * time.Millisecond}},
		{
			"there is none for a while, and another is first to act", false,
			natsserver.Election{Alive: 2, Quorum: 2, Rank: 1, Missed: time.Second},
		},
		{"which it doesn't for long", true, natsserver.Election{Alive: 2, Quorum: 2, Rank: 1, Missed: 2 * time.Second}},
		{"a try has brought nothing", false, natsserver.Election{Alive: 2, Quorum: 2, Missed: time.Second, Tries: 1}},
		{"and that for long", true, natsserver.Election{Alive: 2, Quorum: 2, Missed: 2 * time.Second, Tries: 1}},
		{
			"three tries have brought nothing", false,
			natsserver.Election{Alive: 2, Quorum: 2, Missed: time.Hour, Tries: 3},
		},
	} {
		if got := natsserver.Due(c.e); got != c.due {
			t.Errorf("%s: %t", c.what, got)
		}
	}
}
