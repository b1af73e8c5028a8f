package mesh

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"millrace/node"
)

// Member is a node of the mesh as other nodes know it.
type Member struct {
	ID          string    `json:"id"`          // of the node's state; survives restarts
	Name        string    `json:"name"`        // from the configuration
	Incarnation int64     `json:"incarnation"` // grows with every start
	Version     string    `json:"version"`
	Revision    int64     `json:"config_revision"`
	Roles       []string  `json:"roles"` // edge, store, upstream:NAME
	Started     time.Time `json:"started"`

	State MemberState `json:"state,omitempty"` // as this node sees it; not sent in heartbeats
	Seen  time.Time   `json:"seen,omitzero"`   // when it was last heard
}

// MemberState is what a node knows about another's state.
type MemberState string

// The states of a member.
const (
	MemberAlive MemberState = "alive" // heard within the last LostAfter
	MemberLost  MemberState = "lost"  // silent for longer
	MemberLeft  MemberState = "left"  // announced that it stops
)

// How often a node sends a heartbeat, after what silence it counts as lost, and how long it is remembered after that.
const (
	HeartbeatEvery = time.Second
	LostAfter      = 3500 * time.Millisecond
	forgetAfter    = time.Hour
)

// maxMembers bounds the known nodes.
const maxMembers = 1000

// MemberEvent is a change of a node, as another node sees it.
type MemberEvent struct {
	Kind   string // one of the Event constants
	Member Member

	before Member // the previous process, for EventRestarted
}

// The kinds of MemberEvent.
const (
	EventJoined    = "node-joined"
	EventRestarted = "node-restarted"
	EventLost      = "node-lost"
	EventReturned  = "node-returned" // was lost, and the same process is heard again
	EventLeft      = "node-left"
	EventDouble    = "node-double" // two processes use one id or one name
)

// roster is what one node knows of the others. It uses neither clock nor network. Not safe for concurrent use.
type roster struct {
	self    Member
	members map[string]*Member // by id
	doubles map[string]time.Time
}

func newRoster(self Member) *roster {
	return &roster{self: self, members: map[string]*Member{}, doubles: map[string]time.Time{}}
}

// receive handles a heartbeat. An older incarnation than the living one is a delayed message, or a second process on a
// copy of the same data directory.
func (r *roster) receive(m Member, now time.Time) []MemberEvent {
	if m.ID == r.self.ID {
		if m.Incarnation != r.self.Incarnation {
			return r.double(m, now)
		}
		return nil
	}
	if m.Name == r.self.Name {
		return append(r.double(m, now), r.update(m, now)...)
	}
	return append(r.update(m, now), r.forgetReplaced(&m)...)
}

func (r *roster) update(m Member, now time.Time) []MemberEvent {
	m.State, m.Seen = MemberAlive, now
	known := r.members[m.ID]
	if known == nil {
		if len(r.members) >= maxMembers {
			return nil
		}
		r.members[m.ID] = &m
		return []MemberEvent{{Kind: EventJoined, Member: m}}
	}
	before := *known
	if before.State == MemberAlive && m.Incarnation < before.Incarnation {
		return r.double(m, now)
	}
	*known = m
	switch {
	case m.Incarnation != before.Incarnation && before.State == MemberLeft:
		return []MemberEvent{{Kind: EventJoined, Member: m}}
	case m.Incarnation != before.Incarnation:
		return []MemberEvent{{Kind: EventRestarted, Member: m, before: before}}
	case before.State == MemberLeft: // a heartbeat that arrives after the leave message
		*known = before
		return nil
	case before.State == MemberLost:
		return []MemberEvent{{Kind: EventReturned, Member: m}}
	}
	return nil
}

// double reports two processes where one is expected, at most once a minute for each id.
func (r *roster) double(m Member, now time.Time) []MemberEvent {
	if now.Sub(r.doubles[m.ID]) < time.Minute || len(r.doubles) >= maxMembers {
		return nil
	}
	r.doubles[m.ID] = now
	return []MemberEvent{{Kind: EventDouble, Member: m}}
}

// markLeft handles a node's leave message.
func (r *roster) markLeft(m Member, now time.Time) []MemberEvent {
	known := r.members[m.ID]
	if known == nil || known.Incarnation != m.Incarnation || known.State == MemberLeft {
		return nil
	}
	known.State, known.Seen = MemberLeft, now
	return []MemberEvent{{Kind: EventLeft, Member: *known}}
}

// expire marks silent nodes as lost and forgets those that have been gone for long.
func (r *roster) expire(now time.Time) []MemberEvent {
	var out []MemberEvent
	for id, m := range r.members {
		silent := now.Sub(m.Seen)
		switch {
		case m.State == MemberAlive && silent > LostAfter && r.replaced(m, now):
			delete(r.members, id)
			out = append(out, MemberEvent{Kind: EventReplaced, Member: *m})
		case m.State == MemberAlive && silent > LostAfter:
			m.State = MemberLost
			out = append(out, MemberEvent{Kind: EventLost, Member: *m})
		case m.State != MemberAlive && silent > forgetAfter:
			delete(r.members, id)
		}
	}
	for id, at := range r.doubles {
		if now.Sub(at) > time.Minute {
			delete(r.doubles, id)
		}
	}
	slices.SortFunc(out, func(a, b MemberEvent) int { return cmp.Compare(a.Member.Name, b.Member.Name) })
	return out
}

// list returns all known nodes, this one first.
func (r *roster) list(now time.Time) []Member {
	out := make([]Member, 0, len(r.members)+1)
	for _, m := range r.members {
		out = append(out, *m)
	}
	slices.SortFunc(out, func(a, b Member) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	self := r.self
	self.State, self.Seen = MemberAlive, now
	return slices.Insert(out, 0, self)
}

// Bounds of what a node says about itself.
const (
	maxID      = 64 // bytes
	maxVersion = 128
	maxRole    = 128
	maxRoles   = 256
)

// validate returns why a heartbeat is invalid. Its names go into logs and the journal, so they must be printable.
func (m *Member) validate() error {
	if !node.ValidName(m.Name) {
		return fmt.Errorf("name %q: use 1 to %d of a-z, 0-9, - and _", m.Name, node.MaxName)
	}
	if len(m.Roles) > maxRoles {
		return fmt.Errorf("%d roles: use at most %d", len(m.Roles), maxRoles)
	}
	errs := []error{printable("id", m.ID, maxID), printable("version", m.Version, maxVersion)}
	for _, role := range m.Roles {
		errs = append(errs, printable("role", role, maxRole))
	}
	return errors.Join(errs...)
}

func printable(what, s string, limit int) error {
	if s == "" || len(s) > limit || strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		return fmt.Errorf("%s %q: use 1 to %d ASCII characters that can be seen", what, s, limit)
	}
	return nil
}
