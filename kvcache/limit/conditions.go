package limit

import (
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// refusalShown is how long Conditions reports that the store has refused a write.
const refusalShown = 10 * time.Second

// Conditions lists what is wrong with the limits, each with its cause and a remedy.
func (l *Limiter) Conditions() (out []string) {
	now := time.Now()
	if cause := l.away(now); cause != nil {
		out = append(out, "the store of limits can't be asked ("+cause.Error()+"): requests that this node holds no "+
			"permits for get what store_away says; "+l.remedy())
	}
	if why := l.store.writes.refusedSince(now.Add(-refusalShown)); why != nil {
		out = append(out, refusal(why))
	}
	if n := l.damage.n.Load(); n > 0 {
		out = append(out, fmt.Sprintf(
			"the records of %d limited clients are damaged (see the log): they get what store_away says until their "+
				"windows end; millrace limits reset gives one its full allowance again; look for damaged files below "+
				"the data directory's jetstream", n))
	}
	if raw, ok := l.store.raw.(*streamStore); ok {
		if lost := raw.loss.Load(); lost != nil && now.Sub(lost.at) < l.longest() {
			out = append(out, fmt.Sprintf(
				"the store of limits has lost records that were acknowledged (it was at %d and is at %d): their "+
					"clients may get a part of their allowance a second time until their windows end; look for "+
					"damaged files below the data directory's jetstream, and for a disk that loses what it has synced",
				lost.from, lost.to))
		}
	}
	return append(out, l.clockConditions(now)...)
}

// clockConditions lists clocks that are off.
func (l *Limiter) clockConditions(now time.Time) (out []string) {
	s := l.clock.state.Load()
	within := time.Duration(agreeWithin)
	if d := s.wallAhead; d.Abs() > within {
		out = append(out, "this node's clock is "+apart(
			d)+" most nodes' clocks: limits go by theirs; set this node's clock (NTP)")
	}
	switch d := s.behind; {
	case s.differ:
		out = append(out, "the nodes' clocks differ by more than "+within.String()+" and no majority agrees: limits "+
			"go on by the time that they had; set the clocks (NTP)")
	case s.followsAt.IsZero():
	case l.alone:
		out = append(out, "this node's clock was set while the node runs, to "+apart(
			d)+" the time that limits go by, which is what has passed: they follow it in "+
			max(s.followsAt.Sub(now), 0).Round(time.Second).String()+" if it stays so, or at once when the node is "+
			"started again")
	default:
		out = append(out, "most nodes' clocks are "+apart(d)+" the time that limits go by: they follow in "+max(
			s.followsAt.Sub(now), 0).Round(time.Second).String()+
			" if that stays so, or soon when a node is started again")
	}
	return out
}

// apart describes how far one clock is from another.
func apart(d time.Duration) string {
	if d < 0 {
		return (-d).Round(100*time.Millisecond).String() + " behind"
	}
	return d.Round(100*time.Millisecond).String() + " ahead of"
}

// remedy returns what to do when the store can't be reached.
func (l *Limiter) remedy() string {
	if l.cfg.Remote {
		return "the hub must be reachable, and JetStream must run there"
	}
	if l.cfg.Replicas > 1 {
		return "more than half of the storing nodes, and at the first start all, must run and reach each other"
	}
	return "JetStream must run and write: look for its reason in the log, and for room on the disk"
}

// storeFailed is the server's code for a write that the stream refused, most often because it is full.
const storeFailed jetstream.ErrorCode = 10077

func refusal(why error) string {
	var api *jetstream.APIError
	if errors.As(why, &api) && api.ErrorCode == storeFailed {
		return "the store of limits takes no further clients (" + api.Description +
			"): those that it doesn't know get what store_away says; it has room again when windows end: count fewer " +
			"clients, or in shorter windows"
	}
	return "the store of limits refuses to write (" + why.Error() +
		"): clients whose permits are used up get what store_away says; look at the log of the storing nodes"
}
