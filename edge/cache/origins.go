package cache

import (
	"slices"
	"sync"

	"millrace/edge/exchange"
)

// MaxOrigins bounds the origins that are remembered.
const MaxOrigins = 64

// origins remembers scheme and host of requests that the cache was asked for and hadn't, the newest last: a path alone,
// as an operator types it, then means them. The zero value is ready, and safe for concurrent use.
type origins struct {
	mu   sync.Mutex // guards what follows
	list []string
}

// note remembers an exchange's origin.
func (o *origins) note(x *exchange.Exchange) {
	var room [64]byte
	origin := append(append(append(room[:0], x.Scheme...), "://"...), x.Host...)
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, known := range slices.Backward(o.list) {
		if known == string(origin) {
			return
		}
	}
	if len(o.list) >= MaxOrigins {
		o.list = slices.Delete(o.list, 0, 1)
	}
	o.list = append(o.list, string(origin))
}

// newest lists what is remembered, the newest first.
func (o *origins) newest() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := slices.Clone(o.list)
	slices.Reverse(out)
	return out
}
