package embedded

import (
	"context"
	"sync"
	"time"

	"millrace/edge"
	"millrace/edge/admin"
)

// rateEvery is how often the counts of routes are kept: rates are those of the last one to two such spans, or since the
// start.
const rateEvery = 30 * time.Second

// rates keeps the counts of routes from two moments. One goroutine keeps them, until close.
type rates struct {
	n     *Node
	stop  context.CancelFunc
	ended chan struct{}

	mu            sync.Mutex // guards what follows
	before, newer admin.Counts
}

// openRates begins to keep the counts.
func (n *Node) openRates(context.Context) error {
	ctx, stop := context.WithCancel(context.Background())
	now := admin.Counts{At: time.Now()}
	n.rates = &rates{n: n, stop: stop, ended: make(chan struct{}), before: now, newer: now}
	go n.rates.keep(ctx)
	n.opened("rates", n.rates.close)
	return nil
}

func (r *rates) keep(ctx context.Context) {
	defer close(r.ended)
	tick := time.NewTicker(rateEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			_, caches := r.n.CacheStats()
			counts := admin.NewCounts(now, r.n.RouteStats(), caches)
			r.n.edge.TurnPeaks()
			r.mu.Lock()
			r.before, r.newer = r.newer, counts
			r.mu.Unlock()
		}
	}
}

func (r *rates) close() error {
	r.stop()
	<-r.ended
	return nil
}

// RouteRates says what each route does of late, on this node.
func (n *Node) RouteRates() []admin.RouteRates {
	n.rates.mu.Lock()
	before := n.rates.before
	n.rates.mu.Unlock()
	_, caches := n.CacheStats()
	rates, routes := admin.Rates(before, time.Now(), n.RouteStats(), caches), map[string]edge.RouteInfo{}
	for _, r := range n.Routes() {
		routes[r.Name] = r
	}
	for i := range rates {
		r := routes[rates[i].Route]
		rates[i].Host, rates[i].Methods, rates[i].Path = r.Host, r.Methods, r.Path
	}
	return rates
}
