package embedded

import (
	"context"
	"errors"
	"fmt"
	"time"

	"millrace/edge"
	"millrace/edge/admin"
	"millrace/kvcache"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/state"
)

// openCache makes the cache, before the edge that uses it.
func (n *Node) openCache(context.Context) error {
	cfg := n.fit(&n.opts.Config)
	alone := cfg.Mesh.URL == "" && !cfg.Mesh.Cluster.Enabled()
	cache, err := kvcache.New(kvcache.Config{
		Node: n.identity.ID, Name: cfg.Node.Name, NATS: n.mesh.NATS(), Prefix: cfg.Mesh.Prefix,
		Replicas: replicas(cfg.Mesh), Alone: alone,
		MemoryBytes: int64(cfg.Cache.Memory), BucketBytes: n.sizes.bucket,
		Notes: purgeNotes{n.state}, Lost: func(why error) {
			now := time.Now()
			n.purgesLost.Store(&now)
			n.record("purges-lost", why.Error()+": all that was cached is invalid")
		}, Log: n.log,
	})
	if err != nil {
		return fmt.Errorf("configure cache: %w", err)
	}
	n.cache = cache
	n.opened("cache", cache.Close)
	return nil
}

// purgeNotes keep what the node knows of the log of purges in its state, so that a damaged log is found out.
type purgeNotes struct{ state *state.Store }

// noteTime bounds a read or write of a note.
const noteTime = 5 * time.Second

const purgeNote = "purges"

// Load gives the note of the run before.
func (p purgeNotes) Load() ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), noteTime)
	defer cancel()
	b, err := p.state.Note(ctx, purgeNote)
	if errors.Is(err, state.ErrNotFound) {
		return nil, nil
	}
	return b, err //nolint:wrapcheck // it says what it was
}

// Save keeps the note of this run.
func (p purgeNotes) Save(note []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), noteTime)
	defer cancel()
	return p.state.SetNote(ctx, purgeNote, note) //nolint:wrapcheck // it says what it was
}

// useCache begins to follow the purges as soon as a route caches.
func (n *Node) useCache(ctx context.Context) error {
	if !n.edge.Caches() {
		return nil
	}
	return n.followPurges(ctx)
}

func (n *Node) followPurges(ctx context.Context) error {
	if err := n.cache.Open(ctx); err != nil {
		return fmt.Errorf("open cache: %w", err)
	}
	return nil
}

// cacheWait is how long a node that is alone waits at its start for its own purges, which takes milliseconds, so that
// its first responses are kept.
const cacheWait = 2 * time.Second

// awaitCache lets the cache come up before the node says that it is ready, if a route needs it. Several nodes come up
// one by one: there readyz tells.
func (n *Node) awaitCache(ctx context.Context) error {
	if err := n.useCache(ctx); err != nil {
		return err
	}
	if n.edge.Caches() && n.edgePeers() == nil {
		ctx, cancel := context.WithTimeout(ctx, cacheWait)
		defer cancel()
		_ = n.cache.Await(ctx) // without it responses are validated before use
	}
	return nil
}

// replicas is 3 where three or more nodes store, which only a cluster's list of peers tells.
func replicas(m node.Mesh) int {
	if m.Cluster.Enabled() && len(m.Cluster.Peers) >= 3 {
		return 3
	}
	return 1
}

// peers tells the edge which nodes fetch for one another.
type peers struct{ n *Node }

// Alive lists the nodes that are there, this one included.
func (p peers) Alive() []string {
	members := p.n.members.Load()
	if members == nil {
		return nil
	}
	return members.Alive("edge")
}

// Seen is when a node was heard last.
func (p peers) Seen(node string) time.Time {
	members := p.n.members.Load()
	if members == nil {
		return time.Time{}
	}
	return members.Seen(node)
}

// edgePeers gives the nodes that fetch for one another; nil for a node that is alone.
func (n *Node) edgePeers() edge.Peers {
	if m := n.opts.Config.Mesh; m.URL == "" && !m.Cluster.Enabled() {
		return nil
	}
	return peers{n}
}

// homeLimit bounds the fetches that a node makes for others at once.
const homeLimit = 4096

// openHome lets other nodes ask this one to fetch for them.
func (n *Node) openHome(ctx context.Context) error {
	service, err := n.mesh.NewService(mesh.ServiceConfig{
		Destination: n.mesh.Node("cache", n.identity.ID),
		Limit:       homeLimit, Handler: mesh.HandlerFunc(n.edge.Fetch),
	})
	if err != nil {
		return fmt.Errorf("configure cache: %w", err)
	}
	if err := service.Open(ctx); err != nil {
		return fmt.Errorf("open cache: %w", err)
	}
	n.opened("cache's fetches for others", service.Close)
	return nil
}

// Cache gives the node's cache, for Go programs that keep values of their own in it. Nil before Open.
func (n *Node) Cache() *kvcache.Cache { return n.cache }

// clockCondition says that the clock of an origin differs from this node's, since that stops caching without a word in
// any log; "" if none does.
func (n *Node) clockCondition() string {
	origin, by, ok := n.edge.ClockSkewed()
	switch {
	case !ok:
		return ""
	case by < 0:
		by = by.Abs().Round(time.Second)
		return fmt.Sprintf("this node's clock is %s behind the Date of %s: let both follow a time server", by, origin)
	}
	return fmt.Sprintf("this node's clock is %s ahead of the Date of %s, so that its responses count as old when they "+
		"come and may not be cached: let both follow a time server; if that origin keeps responses itself, let it "+
		"send Age",
		by.Round(time.Second), origin)
}

// purgeError says of a purge that failed what became of it, and what to do.
func (n *Node) purgeError(err error) error {
	data := n.opts.Config.Node.Data
	switch {
	case errors.Is(err, kvcache.ErrUnnoted):
		return fmt.Errorf("%w: should the log of purges be damaged, what it reaches could come back: "+
			"make room on the disk of %s, and purge again", err, data)
	case errors.Is(err, kvcache.ErrAway) && n.storage.full():
		return fmt.Errorf("%w: the purge isn't known to be written: the disk of %s is full: "+
			"make room, and purge again", err, data)
	case errors.Is(err, kvcache.ErrAway):
		return fmt.Errorf("%w: the purge isn't known to be written: try again when JetStream is current", err)
	}
	return err
}

// lostShown is for how long status tells that the log of purges was lost.
const lostShown = time.Hour

// purgesCondition tells that the log of purges was lost, which costs each cached response a fetch.
func (n *Node) purgesCondition() string {
	at := n.purgesLost.Load()
	if at == nil || time.Since(*at) > lostShown || !n.edge.Caches() {
		return ""
	}
	return fmt.Sprintf("the log of purges was lost %s ago, and all that was cached with it (see the log): "+
		"look for files that were deleted or damaged below the data directory's jetstream",
		time.Since(*at).Round(time.Second))
}

// CacheStats gives what the cache holds and has done.
func (n *Node) CacheStats() (kvcache.Stats, []edge.CacheStats) {
	return n.cache.Stats(), n.edge.CacheStats()
}

// Purge makes stored responses invalid, or stale if it is soft.
func (n *Node) Purge(ctx context.Context, req admin.Purge) (admin.Purged, error) {
	purges, err := n.purgesOf(ctx, req)
	if err != nil {
		return admin.Purged{}, err
	}
	begun := time.Now()
	if err := n.cache.Open(ctx); err != nil { // other nodes may cache, if this one doesn't
		return admin.Purged{}, err //nolint:wrapcheck // it says what it was
	}
	done, err := n.cache.Purge(ctx, purges, req.Wait == admin.WaitAll)
	if err != nil {
		return admin.Purged{}, n.purgeError(err)
	}
	out := admin.Purged{Sequence: done.Sequence, TookMS: float64(time.Since(begun).Microseconds()) / 1000}
	for _, node := range done.Nodes {
		out.Nodes = append(out.Nodes, admin.PurgedNode{
			Node: node.Name, ID: node.Node, State: string(node.State),
			AfterMS: float64(node.After.Microseconds()) / 1000,
		})
	}
	n.record("purge", fmt.Sprintf("%s, sequence %d", req, done.Sequence))
	return out, nil
}
