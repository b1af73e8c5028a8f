package mesh

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"

	"millrace/node"
)

// localMembers is the members in this process. A request for one of them may skip NATS. It is the same message to the
// same member, and replies come back the same way; only the carrier differs. Safe for concurrent use.
type localMembers struct {
	mode     node.Local
	interest Interest // nil if the server can't be asked

	mu      sync.Mutex                            // serializes updates
	members atomic.Pointer[map[string][]*Service] // by subject; a map is never modified
}

// add registers a member, unless it was closed meanwhile. remove undoes it.
func (l *localMembers) add(s *Service) {
	l.update(s.cfg.Destination.subject, func(list []*Service) []*Service {
		if s.base.Err() != nil { // it was removed, or is about to be
			return list
		}
		return append(list, s)
	})
}

func (l *localMembers) remove(s *Service) {
	l.update(s.cfg.Destination.subject, func(list []*Service) []*Service {
		return slices.DeleteFunc(list, func(o *Service) bool { return o == s })
	})
}

func (l *localMembers) update(subject string, f func([]*Service) []*Service) {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := map[string][]*Service{}
	if old := l.members.Load(); old != nil {
		maps.Copy(next, *old)
	}
	if next[subject] = f(slices.Clone(next[subject])); len(next[subject]) == 0 {
		delete(next, subject)
	}
	l.members.Store(&next)
}

// acquire finds a member that may get a request of this process without NATS, as a message or directly, and takes a
// permit of its limit. The caller returns both with endLocal.
//
// A nil Service means that the request must go over NATS. In mode auto it must while anybody else subscribes to the
// subject: other members share the work, and observers want to see it. full means that the request needn't be sent at
// all, since the only member is at its limit.
func (l *localMembers) acquire(subject string, direct bool) (s *Service, full bool) {
	for _, s := range l.eligible(subject) {
		if s.cfg.Direct != direct {
			continue
		}
		if s.acquirePermit() {
			return s, false
		}
		full = s.atLimit() && (l.mode == node.LocalAuto || l.onlySubscriber(subject))
	}
	return nil, full
}

// Near reports whether a request to the destination would now be handed to a member in this process, if that member
// isn't at its limit.
func (c *Conn) Near(to Destination) bool { return len(c.localMembers.eligible(to.subject)) > 0 }

// eligible returns the members in this process that may now get a request without NATS.
func (l *localMembers) eligible(subject string) []*Service {
	members := l.members.Load()
	if members == nil || l.mode == node.LocalNATS {
		return nil
	}
	here := (*members)[subject]
	if len(here) == 0 || (l.mode == node.LocalAuto && !l.onlySubscriber(subject)) {
		return nil
	}
	return here
}

// onlySubscriber reports whether the subject has exactly one subscription.
func (l *localMembers) onlySubscriber(subject string) bool {
	return l.interest != nil && l.interest.Alone(subject)
}

// acquirePermit takes a permit for a request of this process. It reports false if the member is at its limit or has
// left.
func (s *Service) acquirePermit() bool {
	if s.active.Add(1) > s.limit.Load() {
		s.releasePermit()
		return false
	}
	s.mu.Lock()
	member := len(s.subs) > 0
	if member {
		s.work.Add(1) // Add never races with Wait at zero: each subscription counts too
	}
	s.mu.Unlock()
	if !member {
		s.releasePermit()
	}
	return member
}

// atLimit reports whether the member has no permit left.
func (s *Service) atLimit() bool { return s.active.Load() >= s.limit.Load() }

// deliverLocal hands the message of try i to a local member, whose permit has been taken.
func (c *requestCall) deliverLocal(s *Service, i int) error {
	payload, err := c.payload(make([]byte, 0, c.sizeHint()), i)
	if int64(len(payload)) > c.conn.nc.MaxPayload() {
		err = publishError(nats.ErrMaxPayload)
	}
	if err != nil {
		s.endLocal()
		return err
	}
	c.conn.stats.forLabel(c.to.label).local.Add(1)
	go s.handle(&nats.Msg{Subject: c.to.subject, Reply: c.conn.mux.subject(c.tries[i], c.to.label), Data: payload})
	return nil
}

// sizeHint estimates the size of the request's message in bytes.
func (c *requestCall) sizeHint() int {
	n := 256 + len(c.req.Target) + len(c.req.Host) + len(c.req.Body)
	for _, f := range c.req.Header {
		n += len(f.Name) + len(f.Value) + 4
	}
	return n
}

// publishReply sends a reply. For a call that waits in this process it skips NATS, unless configured otherwise. The
// call then keeps the payload, so it is copied out of the caller's reusable buffer.
func (c *Conn) publishReply(msg *nats.Msg) error {
	if c.localMembers.mode == node.LocalNATS || !c.mux.owns(msg.Subject) {
		return c.nc.PublishMsg(msg)
	}
	// Check what NATS would refuse, so that a reply doesn't begin to fail when the carrier changes.
	if int64(len(msg.Data)) > c.nc.MaxPayload() {
		return nats.ErrMaxPayload
	}
	own := *msg
	own.Data = slices.Clone(msg.Data)
	c.mux.deliver(&own)
	return nil
}
