package limit

import (
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// noLately is for how long a refusal of the store is told.
const noLately = 10 * time.Second

// Conditions lists what isn't as it should be with the limits, each with its cause and with what to do.
func (l *Limiter) Conditions() (out []string) {
	now := time.Now()
	if cause := l.away(now); cause != nil {
		out = append(out, "the store of limits can't be asked ("+cause.Error()+"): requests that this node holds no permits for get what store_away says; "+l.remedy())
	}
	if why := l.store.writes.no(now.Add(-noLately)); why != nil {
		out = append(out, refusal(why))
	}
	return out
}

// remedy says what to do when the store can't be asked.
func (l *Limiter) remedy() string {
	if l.cfg.Replicas > 1 {
		return "more than half of the storing nodes must run and reach each other"
	}
	return "JetStream must run and write: look for its reason in the log, and for room on the disk"
}

// storeFailed is the server's code for a write that the stream didn't take, most often since it is full.
const storeFailed jetstream.ErrorCode = 10077

func refusal(why error) string {
	var api *jetstream.APIError
	if errors.As(why, &api) && api.ErrorCode == storeFailed {
		return "the store of limits takes no further clients (" + api.Description +
			"): those that it doesn't know get what store_away says; it has room again when windows end: count fewer clients, or in shorter windows"
	}
	return "the store of limits refuses to write (" + why.Error() + "): clients whose permits are used up get what store_away says; look at the log of the storing nodes"
}
