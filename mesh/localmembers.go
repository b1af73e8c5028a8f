package mesh

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"

	"millrace/node"
)

// near is the members in this process. A request for one of them may skip NATS: it is the same message to the same
// member, whose answer and interim responses come back the same way; only who carries it differs. Safe for concurrent
// use.
type localMembers struct {
	mode     node.Local
	interest Interest // nil if the server can't be asked

	mu      sync.Mutex                            // guards changes
	members atomic.Pointer[map[string][]*Service] // by subject; a map is never changed
}

// add makes a member known, unless it was closed meanwhile; remove ends that.
func (l *localMembers) add(s *Service) {
	l.update(s.cfg.Destination.subject, func(l []*Service) []*Service {
		if s.base.Err() != nil { // and so it was removed, or is about to be
			return l
		}
		return append(l, s)
	})
}

func (l *localMembers) remove(s *Service) {
	l.update(s.cfg.Destination.subject, func(l []*Service) []*Service {
		return slices.DeleteFunc(l, func(o *Service) bool { return o == s })
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

// enter finds a member that may get a request of this process in memory, as a message or directly, and takes a place
// under its limit, which left gives back. Nil means that the request must take the wire. In mode auto it must while
// anybody else subscribes to the subject: other members share the work, and observers want to see it. Full tells that
// it needn't be sent at all: the only member there is has no place.
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

// Near reports whether a request to the destination would be handed to a member in this process at this moment, if that
// isn't full.
func (c *Conn) Near(to Destination) bool { return len(c.localMembers.eligible(to.subject)) > 0 }

// here lists the members in this process that may have a request in memory at this moment.
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

// alone reports whether one member is all that subscribes to the subject.
func (l *localMembers) onlySubscriber(subject string) bool {
	return l.interest != nil && l.interest.Alone(subject)
}

// enter takes a place for a request of this process, unless the member is full or isn't one at this moment.
func (s *Service) acquirePermit() bool {
	if s.active.Add(1) > s.limit.Load() {
		s.releasePermit()
		return false
	}
	s.mu.Lock()
	member := len(s.subs) > 0
	if member {
		s.work.Add(1) // the subscriptions keep it above zero
	}
	s.mu.Unlock()
	if !member {
		s.releasePermit()
	}
	return member
}

// full reports whether the member has no place at this moment.
func (s *Service) atLimit() bool { return s.active.Load() >= s.limit.Load() }

// handOver gives a request to a member that was entered.
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

// sizeHint is about how many bytes the message of the request needs.
func (c *requestCall) sizeHint() int {
	n := 256 + len(c.req.Target) + len(c.req.Host) + len(c.req.Body)
	for _, f := range c.req.Header {
		n += len(f.Name) + len(f.Value) + 4
	}
	return n
}

// reply sends an answer: to a call that waits in this process without NATS, if the connection may do so. The payload
// then belongs to the call, so it is copied from memory that will be used again.
func (c *Conn) publishReply(msg *nats.Msg) error {
	if c.localMembers.mode == node.LocalNATS || !c.mux.owns(msg.Subject) {
		return c.nc.PublishMsg(msg) //nolint:wrapcheck // the callers say what was sent
	}
	// what isn't alike over both carriers would fail on the day that the carrier changes
	if int64(len(msg.Data)) > c.nc.MaxPayload() {
		return nats.ErrMaxPayload
	}
	own := *msg
	own.Data = slices.Clone(msg.Data)
	c.mux.deliver(&own)
	return nil
}
