package mesh

import (
	"time"

	"github.com/nats-io/nats.go"

	"millrace/node"
)

// headerRunning, on an interim reply without payload, names the node process that runs the request. Nodes send it for
// long requests.
const headerRunning = "Millrace-Running"

// A node says within runningWithin that it runs a long request. When a node is lost, older requests that no node has
// claimed count as lost with it.
const runningWithin = 3 * time.Second

// publishRunning tells the caller of a request that this node runs it.
func (c *Conn) publishRunning(reply string) {
	m := c.members.Load()
	if m == nil || c.mux.owns(reply) {
		return
	}
	header := nats.Header{headerInterim: {"1"}, headerRunning: {m.cfg.Self.process()}}
	_ = c.nc.PublishMsg(&nats.Msg{Subject: reply, Header: header}) // if lost, the caller only waits longer
}

// errMemberGone answers a call whose member is gone.
var errMemberGone = node.Errorf(node.CodeUpstream, nil, "the member that had the request is gone")

// impact is what a departure means for a try.
type impact int

const (
	unaffected    impact = iota
	possiblyLost         // the member that has the try may be gone
	certainlyLost        // the try won't be answered
)

// impactOn returns what the departure means for a try that was published to the destination at sent. process is the
// node process that runs the try, if known. noSubscriber says that the subject has no subscriber left.
func (d *departure) impactOn(to *Destination, sent time.Time, process string, noSubscriber bool) impact {
	switch {
	case d.at.Before(sent):
		return unaffected
	case to.answers == oneNode && to.nodeID() == d.node, process != "" && process == d.process:
		return certainlyLost
	case process != "", d.announced, to.onlyNodes() && d.node == "":
		return unaffected
	case noSubscriber, to.onlyNodes() && time.Since(sent) > runningWithin:
		return certainlyLost
	}
	return possiblyLost
}

// noSubscriber reports whether it is known that no member is left to answer requests on the subject. Draining members
// still subscribe to cancellations.
func (c *Conn) noSubscriber(subject, cancel string) bool {
	return c.cfg.Interest != nil && !c.cfg.Interest.Anybody(subject) &&
		(cancel == "" || !c.cfg.Interest.Anybody(cancel))
}

// handleDepartures abandons the tries that won't be answered, and sends the request again if allowed. The error means
// that the call has failed.
func (c *requestCall) handleDepartures(departures []departure) error {
	if len(departures) == 0 {
		return nil
	}
	noSubscriber, possible := c.conn.noSubscriber(c.to.subject, c.to.cancel), false
	for i := range c.tries {
		switch c.impact(i, departures, noSubscriber) {
		case certainlyLost:
			c.abandonTry(i)
		case possiblyLost:
			possible = true
		case unaffected:
		}
	}
	switch {
	case c.hasTry() && possible && !c.secondDone && c.spendBudget():
		_ = c.sendAgain() // the first try stays pending
	case c.hasTry():
	case noSubscriber || c.secondDone || c.to.answers == oneNode:
		return errMemberGone
	default:
		return c.sendAgain()
	}
	return nil
}

// impact returns the worst impact of the departures on try i.
func (c *requestCall) impact(i int, departures []departure, noSubscriber bool) (worst impact) {
	if c.tries[i].slot == nil || c.local[i] {
		return unaffected
	}
	for _, d := range departures {
		worst = max(worst, d.impactOn(&c.to, c.sentAt[i], c.tries[i].process(), noSubscriber))
	}
	return worst
}

// abandonTry ends try i, unless its reply has arrived. If its member is alive after all, it is told to cancel.
func (c *requestCall) abandonTry(i int) {
	t := c.tries[i]
	if !c.conn.mux.abandonWaiting(t) {
		return
	}
	c.tries[i] = try{}
	c.memberLost = true
	_ = c.conn.nc.Publish(c.to.cancel, []byte(c.nonce(t))) // best effort
}

// hasTry reports whether a try may still be answered.
func (c *requestCall) hasTry() bool { return c.tries[0].slot != nil || c.tries[1].slot != nil }

// handleDepartures returns an error if no member has taken the request and none will. After that, probing finds out
// whether the member is gone.
func (c *streamCall) handleDepartures(departures []departure) error {
	if len(departures) == 0 || c.stream.hasPeer() {
		return nil
	}
	noSubscriber := c.conn.noSubscriber(c.to.stream, c.to.cancel)
	for _, d := range departures {
		if d.impactOn(&c.to, c.sentAt, "", noSubscriber) == certainlyLost {
			return errMemberGone
		}
	}
	return nil
}
