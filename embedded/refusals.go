package embedded

import (
	"fmt"
	"sync"
	"time"

	"millrace/embedded/natsserver"
	"millrace/node"
)

// refusals writes down members whose subscriptions the server refuses: without a word, their owners would only see that no
// request comes. A member that tries again and again is written down once a minute.
type refusals struct {
	n    *Node
	mu   sync.Mutex
	seen map[natsserver.Refusal]time.Time
}

// maxRefusals bounds what is remembered; beyond that nothing more is written until something is forgotten.
const maxRefusals = 64

func newRefusals(n *Node) *refusals {
	return &refusals{n: n, seen: map[natsserver.Refusal]time.Time{}}
}

func (r *refusals) tell(refusal natsserver.Refusal) {
	if !r.fresh(natsserver.Refusal{Subject: refusal.Subject, Queue: refusal.Queue}) {
		return
	}
	group := "no queue group"
	if refusal.Queue != "" {
		group = fmt.Sprintf("queue group %q", refusal.Queue)
	}
	detail := fmt.Sprintf("%s may not subscribe to %q in %s: members subscribe to http.NAME in queue group %q", refusal.Member, refusal.Subject, group, node.QueueGroup)
	r.n.log.Warn("a member's subscription was refused", "member", refusal.Member, "subject", refusal.Subject, "queue", refusal.Queue)
	r.n.record("member-refused", detail)
}

// fresh tells whether this wasn't written down within the last minute.
func (r *refusals) fresh(what natsserver.Refusal) bool {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for seen, at := range r.seen {
		if now.Sub(at) > time.Minute {
			delete(r.seen, seen)
		}
	}
	if _, known := r.seen[what]; known || len(r.seen) >= maxRefusals {
		return false
	}
	r.seen[what] = now
	return true
}
