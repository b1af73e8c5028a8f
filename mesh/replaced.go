package mesh

import "time"

// EventReplaced means that a lost node came back under its name with another id, as after its data directory was
// emptied or replaced. The event's Member is the lost one, which is forgotten.
const EventReplaced = "node-replaced"

// forgetReplaced forgets nodes that are gone and whose name the node m now has. Otherwise they would count as lost for
// an hour, while the node of that name is alive.
func (r *roster) forgetReplaced(m *Member) (out []MemberEvent) {
	for id, other := range r.members {
		if id == m.ID || other.Name != m.Name || other.State == MemberAlive {
			continue
		}
		delete(r.members, id)
		if other.State == MemberLost {
			out = append(out, MemberEvent{Kind: EventReplaced, Member: *other})
		}
	}
	return out
}

// replaced reports whether another node is alive under the name of a silent one and was heard after it. Then the silent
// one isn't lost.
func (r *roster) replaced(silent *Member, now time.Time) bool {
	for id, other := range r.members {
		if id != silent.ID && other.Name == silent.Name && other.State == MemberAlive &&
			now.Sub(other.Seen) <= LostAfter && other.Seen.After(silent.Seen) {
			return true
		}
	}
	return false
}
