package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"millrace/kvcache/limit"
	"millrace/node"
)

// limits is the node's limiter, shared by the edge and members.
type limits struct {
	cfg    *node.Config
	log    *slog.Logger
	memory *memory
	state  *stateFile
	nats   *natsServer
	mesh   *meshConn
	disk   *disk
	nodes  *nodes

	limiter *limit.Limiter // nil before open
}

// open allocates the limiter with its rules, before the edge that uses it. openStore starts its store.
func (l *limits) open(context.Context) error {
	cfg := l.memory.fit(l.cfg)
	c := limit.Config{
		Keys: cfg.LimitKeys(node.Size(l.memory.bounds.Bytes)), Node: l.state.identity.ID, NATS: l.mesh.conn.NATS(),
		Prefix: meshPrefix(cfg.Mesh), Replicas: replicas(&cfg.Mesh), Remote: cfg.Mesh.Leaf != nil,
		StoreBytes: l.disk.sizes.limits, Log: l.log,
		Mark: limitMark(filepath.Join(cfg.Node.Data, "limits.mark")),
	}
	if !cfg.Mesh.Alone() {
		c.Nodes, c.Slots, c.Yield = l.nodes.holders, max(len(cfg.Mesh.Cluster.Peers), 1), l.nats.yieldLimits
	}
	limiter, err := limit.New(c)
	if err != nil {
		return fmt.Errorf("configure limits: %w", err)
	}
	limiter.SetRules(rulesOf(cfg.Limits, cfg.Named()))
	l.limiter = limiter
	return nil
}

func (l *limits) close() error {
	if l.limiter == nil {
		return nil
	}
	return l.limiter.Close()
}

// openStore starts the store as soon as there is a limit. Where the store needs only moments it waits until it is
// ready: alone, and in a cluster that has formed. While a cluster forms, readyz reports that the store isn't ready.
func (l *limits) openStore(ctx context.Context) error {
	if len(l.limiter.Rules()) == 0 && l.cfg.Mesh.Leafs == nil { // leafs can't make the store
		return nil
	}
	if err := l.limiter.Open(ctx); err != nil {
		return fmt.Errorf("open limits: %w", err)
	}
	if l.nats.current() || l.nodes.alone() {
		ctx, cancel := context.WithTimeout(ctx, cacheWait)
		defer cancel()
		_ = l.limiter.Await(ctx) // if it fails, store_away decides what happens to requests
	}
	return nil
}

func (l *limits) change(ctx context.Context, cfg *node.Config, routes []node.Route) (warnings []string) {
	l.limiter.SetRules(rulesOf(cfg.Limits, routes))
	if err := l.openStore(ctx); err != nil { // before requests need the limits
		return []string{err.Error()}
	}
	return nil
}

// limitMark is the path of a file with the last known position of the limits' store.
type limitMark string

// Load returns the position; 0 if there is no file or it holds something else.
func (m limitMark) Load() uint64 {
	b, err := os.ReadFile(string(m))
	if err != nil {
		return 0
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// Save replaces the file.
func (m limitMark) Save(n uint64) error {
	return writePrivate(string(m), strconv.FormatUint(n, 10)+"\n")
}

// rulesOf returns the limits by name: those that routes share, and those of single routes. All routes must have names.
func rulesOf(shared map[string]node.Limit, routes []node.Route) map[string]node.Limit {
	rules := maps.Clone(shared)
	if rules == nil {
		rules = map[string]node.Limit{}
	}
	for _, r := range routes {
		for i, l := range r.Limit {
			if l.Use == "" {
				rules[r.LimitID(i)] = l
			}
		}
	}
	return rules
}
