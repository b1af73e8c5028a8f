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

// limits is the node's limiter, which the edge and members use.
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

// open makes the limiter with its rules, before the edge that uses it. It begins to use the store by use.
func (l *limits) open(context.Context) error {
	cfg := l.memory.fit(l.cfg)
	c := limit.Config{
		Keys: cfg.LimitKeys(node.Size(l.memory.bounds.Bytes)), Node: l.state.identity.ID, NATS: l.mesh.conn.NATS(),
		Prefix: meshPrefix(cfg.Mesh), Replicas: replicas(&cfg.Mesh), StoreBytes: l.disk.sizes.limits, Log: l.log,
		Mark: limitMark(filepath.Join(cfg.Node.Data, "limits.mark")),
	}
	if !alone(&cfg.Mesh) {
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
	return l.limiter.Close() //nolint:wrapcheck // the node says what it was
}

// use begins to use the store as soon as there is a limit, and lets it come up before requests need it, where that
// takes moments: alone, and in a cluster that has formed. While one forms, at the start, readyz tells.
func (l *limits) use(ctx context.Context) error {
	if len(l.limiter.Rules()) == 0 {
		return nil
	}
	if err := l.limiter.Open(ctx); err != nil {
		return fmt.Errorf("open limits: %w", err)
	}
	if l.nats.current() || l.nodes.peers() == nil {
		ctx, cancel := context.WithTimeout(ctx, cacheWait)
		defer cancel()
		_ = l.limiter.Await(ctx) // without it store_away says what happens
	}
	return nil
}

func (l *limits) change(ctx context.Context, cfg *node.Config, routes []node.Route) (warnings []string) {
	l.limiter.SetRules(rulesOf(cfg.Limits, routes))
	if err := l.use(ctx); err != nil { // before requests need them
		return []string{err.Error()}
	}
	return nil
}

// limitMark is a file that remembers how far the store of limits had come.
type limitMark string

// Load gives 0 if there is no such file, or another one.
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

// rulesOf lists the limits by name: those that routes share, and those of one route each. The routes have names.
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
