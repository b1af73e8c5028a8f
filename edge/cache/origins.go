package cache

import (
	"slices"
	"sync"

	"millrace/edge/exchange"
)

// MaxOrigins bounds the origins that are remembered.
const MaxOrigins = 64

// origins remembers the scheme and host of requests that weren't answered from the store, the newest last. If an
// operator types a path alone, these origins are meant. The zero value is ready to use, and safe for concurrent use.
type origins struct {
	mu   sync.Mutex // guards what follows
	list []string
}

// note records an exchange's origin.
func (o *origins) note(x *exchange.Exchange) {
	var buf [64]byte
	origin := append(append(append(buf[:0], x.Scheme...), "://"...), x.Host...)
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

// newest returns the origins, the newest first.
func (o *origins) newest() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := slices.Clone(o.list)
	slices.Reverse(out)
	return out
}
