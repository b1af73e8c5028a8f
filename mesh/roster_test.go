package mesh

import (
	"encoding/json"
	"slices"
	"testing"
	"time"
)

// The first of three nodes records what happens to the others.
func TestRoster(t *testing.T) {
	now := time.Unix(1000, 0)
	r := newRoster(Member{ID: "a", Name: "n1", Incarnation: 1})
	node2, node3 := Member{ID: "b", Name: "n2", Incarnation: 5}, Member{ID: "c", Name: "n3", Incarnation: 7}
	reborn := node2
	reborn.Incarnation = 6
	kinds := func(events []MemberEvent) (out []string) {
		for _, e := range events {
			out = append(out, e.Kind+" "+e.Member.Name)
		}
		return out
	}
	hear := func(m Member) func() []MemberEvent { return func() []MemberEvent { return r.receive(m, now) } }
	leave := func(m Member) func() []MemberEvent { return func() []MemberEvent { return r.markLeft(m, now) } }
	sweep := func() []MemberEvent { return r.expire(now) }
	for i, step := range []struct {
		after time.Duration
		do    func() []MemberEvent
		want  []string
	}{
		{0, hear(node2), []string{"node-joined n2"}},
		{0, hear(node3), []string{"node-joined n3"}},
		{time.Second, hear(node2), nil},
		{2 * time.Second, sweep, nil},
		{time.Second, sweep, []string{"node-lost n3"}},
		{0, sweep, nil},
		{0, hear(node3), []string{"node-returned n3"}},
		{0, hear(reborn), []string{"node-restarted n2"}},
		{0, hear(node2), []string{"node-double n2"}}, // an older process still sends heartbeats
		{time.Second, hear(node2), nil},              // once a minute is enough
		{0, leave(node2), nil},                       // not the known process
		{0, leave(reborn), []string{"node-left n2"}},
		{0, leave(reborn), nil},
		{0, hear(reborn), nil}, // sent before the leave message
		{10 * time.Second, sweep, []string{"node-lost n3"}},
		{0, hear(Member{ID: "a", Name: "n1", Incarnation: 1}), nil},                        // its own heartbeat
		{0, hear(Member{ID: "a", Name: "n1", Incarnation: 2}), []string{"node-double n1"}}, // a copy of its directory
		{0, hear(Member{ID: "d", Name: "n1", Incarnation: 2}), []string{"node-double n1", "node-joined n1"}},
		{2 * time.Hour, sweep, []string{"node-lost n1"}},
	} {
		now = now.Add(step.after)
		if got := kinds(step.do()); !slices.Equal(got, step.want) {
			t.Errorf("step %d: got %q, want %q", i, got, step.want)
		}
	}
	var names []string
	for _, m := range r.list(now) {
		names = append(names, m.ID+" "+string(m.State))
	}
	if !slices.Equal(names, []string{"a alive", "d lost"}) {
		t.Errorf("list %q: those gone for an hour are forgotten", names)
	}
}

func TestRosterBounds(t *testing.T) {
	r := newRoster(Member{ID: "self", Name: "self"})
	now := time.Unix(1000, 0)
	for i := range 3 * maxMembers {
		id := "n" + string(rune('a'+i%26)) + time.Duration(i).String()
		r.receive(Member{ID: id, Name: "n"}, now)
		r.receive(Member{ID: id, Name: "self", Incarnation: -1}, now)
	}
	if len(r.members) > maxMembers || len(r.doubles) > maxMembers {
		t.Errorf("%d members, %d doubles", len(r.members), len(r.doubles))
	}
}

// Whatever a heartbeat holds, what is accepted is printable, and the roster stays bounded.
func FuzzHeartbeat(f *testing.F) {
	f.Add([]byte(`{"id":"b","name":"n2","incarnation":5,"version":"1","config_revision":3,"roles":["edge","store"],"started":"2026-01-02T03:04:05Z"}`))
	f.Add([]byte(`{"id":"b","name":"n2","version":"1","leaving":true}`))
	f.Add([]byte(`{"id":"b\u001b[2J","name":"n2","version":"1"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var n heartbeat
		if json.Unmarshal(data, &n) != nil || n.validate() != nil {
			return
		}
		r := newRoster(Member{ID: "a", Name: "n1"})
		now := time.Unix(1000, 0)
		r.receive(n.Member, now)
		r.markLeft(n.Member, now)
		for _, m := range r.list(now) {
			for _, s := range append([]string{m.ID, m.Name}, m.Roles...) {
				for i := range len(s) {
					if s[i] <= ' ' || s[i] >= 0x7f {
						t.Fatalf("%q was believed", s)
					}
				}
			}
		}
	})
}
