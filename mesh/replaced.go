package mesh

import "time"

// EventReplaced means that a node which was lost came back under its name with another id, as one does whose data
// directory was emptied or replaced. The event's Member is the one that was lost; it is forgotten.
const EventReplaced = "node-replaced"

// replacing forgets nodes that are gone and whose name the node now has. Without that they would count as lost for an
// hour, while what people know by that name lives.
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

// replaced reports whether another node lives under the name of one that fell silent, and began after that was heard
// last: then it isn't lost.
func (r *roster) replaced(silent *Member, now time.Time) bool {
	for id, other := range r.members {
		if id != silent.ID && other.Name == silent.Name && other.State == MemberAlive &&
			now.Sub(other.Seen) <= LostAfter && other.Seen.After(silent.Seen) {
			return true
		}
	}
	return false
}
