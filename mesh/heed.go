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
const runningPatience = 3 * time.Second

// tellRunning tells the caller of a request that this node runs it.
func (c *Conn) tellRunning(reply string) {
	m := c.members.Load()
	if m == nil || c.mux.owns(reply) {
		return
	}
	told := nats.Header{headerInterim: {"1"}, headerRunning: {m.cfg.Self.run()}}
	_ = c.nc.PublishMsg(&nats.Msg{Subject: reply, Header: told}) // otherwise the caller waits for longer than it need
}

// errGone answers a call whose member won't.
var errGone = node.Errorf(node.CodeUpstream, nil, "the member that had the request is gone")

// fate is what became of a try when somebody departed.
type fate int

const (
	unharmed fate = iota
	unknown       // whoever had it may be gone
	dead          // it won't be answered
)

// fateOf judges a try that was sent at some time on the wire to a destination, and that runs in a process, if that is
// known. Nobody tells that the destination has no subscriber left.
func (d *departure) fateOf(to *Destination, sent time.Time, run string, nobody bool) fate {
	switch {
	case d.at.Before(sent):
		return unharmed
	case to.answers == oneNode && to.node() == d.node, run != "" && run == d.run:
		return dead
	case run != "", d.left, to.nodes() && d.node == "":
		return unharmed
	case nobody, to.nodes() && time.Since(sent) > runningPatience:
		return dead
	}
	return unknown
}

// nobody reports whether it is known that no member is left to answer requests on the subject. Members that drain still
// hear cancellations.
func (c *Conn) nobody(subject, cancel string) bool {
	return c.cfg.Interest != nil && !c.cfg.Interest.Anybody(subject) &&
		(cancel == "" || !c.cfg.Interest.Anybody(cancel))
}

// heed gives up the tries that nobody will answer. The request is sent again if it may be; the error tells that it
// isn't.
func (x *exchange) heed(news []departure) error {
	if len(news) == 0 {
		return nil
	}
	nobody, doubt := x.conn.nobody(x.to.subject, x.to.cancel), false
	for i := range x.tries {
		switch x.fate(i, news, nobody) {
		case dead:
			x.giveUp(i)
		case unknown:
			doubt = true
		case unharmed:
		}
	}
	switch {
	case x.waits() && doubt && !x.second && x.paid():
		_ = x.again() // the first one waits on
	case x.waits():
	case nobody || x.second || x.to.answers == oneNode:
		return errGone
	default:
		return x.again()
	}
	return nil
}

// fate judges one try by the worst of the news.
func (x *exchange) fate(i int, news []departure, nobody bool) (worst fate) {
	if x.tries[i].slot == nil || x.here[i] {
		return unharmed
	}
	for _, d := range news {
		worst = max(worst, d.fateOf(&x.to, x.sent[i], x.tries[i].runs(), nobody))
	}
	return worst
}

// giveUp ends a try, unless its answer has come after all. If its member lives, it learns that nobody waits.
func (x *exchange) giveUp(i int) {
	t := x.tries[i]
	if !x.conn.mux.giveUp(t) {
		return
	}
	x.tries[i] = ticket{}
	x.gone = true
	_ = x.conn.nc.Publish(x.to.cancel, []byte(x.nonce(t))) // best effort
}

// waits reports whether a try may still be answered.
func (x *exchange) waits() bool { return x.tries[0].slot != nil || x.tries[1].slot != nil }

// heed reports whether an offer that nobody has taken won't be. What was taken ends when the other side does.
func (x *offer) heed(news []departure) error {
	if len(news) == 0 || x.l.met() {
		return nil
	}
	nobody := x.c.nobody(x.to.stream, x.to.cancel)
	for _, d := range news {
		if d.fateOf(&x.to, x.sentAt, "", nobody) == dead {
			return errGone
		}
	}
	return nil
}
