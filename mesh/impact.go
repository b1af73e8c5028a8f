package mesh

import (
	"time"

	"github.com/nats-io/nats.go"

	"millrace/node"
)

// headerRunning, on an interim reply without payload, names the process of a node that runs the request. Nodes send it
// for requests that take long.
const headerRunning = "Millrace-Running"

// runningPatience is after what time a request that no node has said to run is believed to have been with one that is
// lost.
const runningWithin = 3 * time.Second

// tellRunning tells the caller of a request that this node runs it.
func (c *Conn) publishRunning(reply string) {
	m := c.members.Load()
	if m == nil || c.mux.owns(reply) {
		return
	}
	told := nats.Header{headerInterim: {"1"}, headerRunning: {m.cfg.Self.process()}}
	_ = c.nc.PublishMsg(&nats.Msg{Subject: reply, Header: told}) // otherwise the caller waits for longer than it need
}

// errGone answers a call whose member won't.
var errMemberGone = node.Errorf(node.CodeUpstream, nil, "the member that had the request is gone")

// fate is what became of a try when somebody departed.
type impact int

const (
	unaffected    impact = iota
	possiblyLost         // whoever had it may be gone
	certainlyLost        // it won't be answered
)

// fateOf judges a try that was sent at some time on the wire to a destination, and that runs in a process, if that is
// known. Nobody tells that the destination has no subscriber left.
func (d *departure) impactOn(to *Destination, sent time.Time, run string, nobody bool) impact {
	switch {
	case d.at.Before(sent):
		return unaffected
	case to.answers == oneNode && to.nodeID() == d.node, run != "" && run == d.process:
		return certainlyLost
	case run != "", d.announced, to.onlyNodes() && d.node == "":
		return unaffected
	case nobody, to.onlyNodes() && time.Since(sent) > runningWithin:
		return certainlyLost
	}
	return possiblyLost
}

// nobody reports whether it is known that no member is left to answer requests on the subject. Members that drain still
// hear cancellations.
func (c *Conn) noSubscriber(subject, cancel string) bool {
	return c.cfg.Interest != nil && !c.cfg.Interest.Anybody(subject) &&
		(cancel == "" || !c.cfg.Interest.Anybody(cancel))
}

// heed gives up the tries that nobody will answer. The request is sent again if it may be; the error tells that it
// isn't.
func (c *requestCall) handleDepartures(news []departure) error {
	if len(news) == 0 {
		return nil
	}
	nobody, possible := c.conn.noSubscriber(c.to.subject, c.to.cancel), false
	for i := range c.tries {
		switch c.impact(i, news, nobody) {
		case certainlyLost:
			c.abandonTry(i)
		case possiblyLost:
			possible = true
		case unaffected:
		}
	}
	switch {
	case c.hasTry() && possible && !c.secondDone && c.spendBudget():
		_ = c.sendAgain() // the first one waits on
	case c.hasTry():
	case nobody || c.secondDone || c.to.answers == oneNode:
		return errMemberGone
	default:
		return c.sendAgain()
	}
	return nil
}

// fate judges one try by the worst of the news.
func (c *requestCall) impact(i int, news []departure, nobody bool) (worst impact) {
	if c.tries[i].slot == nil || c.local[i] {
		return unaffected
	}
	for _, d := range news {
		worst = max(worst, d.impactOn(&c.to, c.sentAt[i], c.tries[i].process(), nobody))
	}
	return worst
}

// giveUp ends a try, unless its answer has come after all. If its member lives, it learns that nobody waits.
func (c *requestCall) abandonTry(i int) {
	t := c.tries[i]
	if !c.conn.mux.abandonWaiting(t) {
		return
	}
	c.tries[i] = try{}
	c.memberLost = true
	_ = c.conn.nc.Publish(c.to.cancel, []byte(c.nonce(t))) // best effort
}

// waits reports whether a try may still be answered.
func (c *requestCall) hasTry() bool { return c.tries[0].slot != nil || c.tries[1].slot != nil }

// heed reports whether an offer that nobody has taken won't be. What was taken ends when the other side does.
func (c *streamCall) handleDepartures(news []departure) error {
	if len(news) == 0 || c.stream.hasPeer() {
		return nil
	}
	nobody := c.conn.noSubscriber(c.to.stream, c.to.cancel)
	for _, d := range news {
		if d.impactOn(&c.to, c.sentAt, "", nobody) == certainlyLost {
			return errMemberGone
		}
	}
	return nil
}
