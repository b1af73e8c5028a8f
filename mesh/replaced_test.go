package mesh

import (
	"slices"
	"testing"
	"time"
)

// A node that returns with an empty directory has its name and another id. The old id isn't lost for an hour: not if
// the new one comes while the old one counts as alive, nor if it comes later, nor if the old one had announced that it
// leaves.
func TestReplacedNodeIsNotLost(t *testing.T) {
	old, fresh := Member{ID: "b", Name: "n2", Incarnation: 5}, Member{ID: "c", Name: "n2", Incarnation: 9}
	for name, c := range map[string]struct {
		before func(r *roster, now time.Time) // happens to the old one
		after  time.Duration                  // when the new one comes
		want   []string                       // events from then on
	}{
		"soon": {nil, time.Second, []string{EventJoined + " c", EventReplaced + " b"}},
		"when it's lost": {func(r *roster, now time.Time) {
			r.expire(now.Add(LostAfter + time.Second))
		}, 10 * time.Second, []string{EventJoined + " c", EventReplaced + " b"}},
		"after farewell": {func(r *roster, now time.Time) {
			r.markLeft(old, now)
		}, 10 * time.Second, []string{EventJoined + " c"}},
	} {
		now := time.Unix(1000, 0)
		r := newRoster(Member{ID: "a", Name: "n1", Incarnation: 1})
		r.receive(old, now)
		if c.before != nil {
			c.before(r, now)
		}
		now = now.Add(c.after)
		var got []string
		for range 20 {
			for _, e := range append(r.receive(fresh, now), r.expire(now)...) {
				got = append(got, e.Kind+" "+e.Member.ID)
			}
			now = now.Add(HeartbeatEvery)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		for _, m := range r.list(now) {
			if m.State != MemberAlive || m.ID == "b" {
				t.Errorf("%s: %s is listed as %s", name, m.ID, m.State)
			}
		}
	}
}

// Two living nodes of the same name both stay listed.
func TestSameNameStaysListed(t *testing.T) {
	now := time.Unix(1000, 0)
	r := newRoster(Member{ID: "a", Name: "n1", Incarnation: 1})
	for range 20 {
		for _, id := range []string{"b", "c"} {
			r.receive(Member{ID: id, Name: "n2", Incarnation: 5}, now)
		}
		r.expire(now)
		now = now.Add(HeartbeatEvery)
	}
	if got := len(r.list(now)); got != 3 {
		t.Errorf("%d nodes are listed, want 3", got)
	}
}
