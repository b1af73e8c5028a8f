package embedded

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"millrace/embedded/natsserver"
	"millrace/node"
)

// refusals logs and records subscriptions of members that the server refused. Without that, a member's owner would only
// see that no request arrives. Each refusal is written at most once a minute.
type refusals struct {
	log    *slog.Logger
	record func(kind, detail string)

	mu   sync.Mutex // guards seen
	seen map[natsserver.Refusal]time.Time
}

// maxRefusals bounds the refusals that are remembered. While that many are, further ones aren't written.
const maxRefusals = 64

func newRefusals(log *slog.Logger, record func(kind, detail string)) *refusals {
	return &refusals{log: log, record: record, seen: map[natsserver.Refusal]time.Time{}}
}

// report logs and records a refusal, unless the same one was written within the last minute.
func (r *refusals) report(refusal natsserver.Refusal) {
	if !r.isNew(natsserver.Refusal{Subject: refusal.Subject, Queue: refusal.Queue}) {
		return
	}
	group := "no queue group"
	if refusal.Queue != "" {
		group = fmt.Sprintf("queue group %q", refusal.Queue)
	}
	hint := refusalHint(refusal.Subject)
	detail := fmt.Sprintf("%s may not subscribe to %q in %s: %s", refusal.Member, refusal.Subject, group, hint)
	r.log.Warn("a member's subscription was refused", "member", refusal.Member, "subject", refusal.Subject,
		"queue", refusal.Queue, "hint", hint)
	r.record("member-refused", detail)
}

// refusalHint says what a member should subscribe to instead.
func refusalHint(subject string) string {
	switch {
	case strings.HasPrefix(subject, "http."):
		return "subscribe in queue group " + node.QueueGroup
	case strings.HasPrefix(subject, "_INBOX"):
		return "give the connection a name of A-Z, a-z, 0-9, - and _, and its inboxes the prefix _INBOX_NAME"
	}
	return "members subscribe to http.NAME in queue group " + node.QueueGroup + ", and to the subjects of nats: routes"
}

// isNew reports whether this refusal wasn't written within the last minute, and remembers it.
func (r *refusals) isNew(what natsserver.Refusal) bool {
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
