package embedded

import (
	"context"
	"sync"
	"time"

	"millrace/edge"
	"millrace/edge/admin"
)

// rateEvery is the interval of the samples. Rates cover the last one to two intervals, or the time since the start.
const rateEvery = 30 * time.Second

// rates keeps two samples of the routes' counts. Its goroutine runs from open to close.
type rates struct {
	edge  *edgeServer
	stop  context.CancelFunc // nil before open
	ended chan struct{}

	mu            sync.Mutex // guards what follows
	before, newer admin.Counts
}

// open starts to sample.
func (r *rates) open(context.Context) error {
	ctx, stop := context.WithCancel(context.Background())
	now := admin.Counts{At: time.Now()}
	r.stop, r.ended, r.before, r.newer = stop, make(chan struct{}), now, now
	go r.keep(ctx)
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
			counts := admin.NewCounts(now, r.edge.server.Stats(), r.edge.server.CacheStats())
			r.edge.server.TurnPeaks()
			r.mu.Lock()
			r.before, r.newer = r.newer, counts
			r.mu.Unlock()
		}
	}
}

func (r *rates) close() error {
	if r.stop == nil {
		return nil
	}
	r.stop()
	<-r.ended
	return nil
}

// routes returns the current rates of each route, on this node.
func (r *rates) routes() []admin.RouteRates {
	r.mu.Lock()
	before := r.before
	r.mu.Unlock()
	out := admin.Rates(before, time.Now(), r.edge.server.Stats(), r.edge.server.CacheStats())
	routes := map[string]edge.RouteInfo{}
	for _, route := range r.edge.server.Routes() {
		routes[route.Name] = route
	}
	for i := range out {
		route := routes[out[i].Route]
		out[i].Host, out[i].Methods, out[i].Path = route.Host, route.Methods, route.Path
	}
	return out
}
