package embedded

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"millrace/edge/admin"
	"millrace/embedded/natsserver"
	"millrace/kvcache/limit"
	"millrace/node"
)

// openLimits makes the limiter, before the edge that uses it.
func (n *Node) openLimits(context.Context) error {
	cfg := n.fit(&n.opts.Config)
	c := limit.Config{
		Keys: cfg.LimitKeys(node.Size(n.memory.Bytes)), Node: n.identity.ID, NATS: n.mesh.NATS(),
		Prefix: meshPrefix(cfg.Mesh), Replicas: replicas(cfg.Mesh), StoreBytes: n.sizes.limits, Log: n.log,
	}
	if cfg.Mesh.URL != "" || cfg.Mesh.Cluster.Enabled() {
		c.Nodes, c.Slots, c.Yield = n.liveNodes, max(len(cfg.Mesh.Cluster.Peers), 1), n.yieldLimits
	}
	c.Mark = limitMark(filepath.Join(cfg.Node.Data, "limits.mark"))
	limits, err := limit.New(c)
	if err != nil {
		return fmt.Errorf("configure limits: %w", err)
	}
	n.limits = limits
	n.limits.SetRules(rulesOf(cfg.Limits, cfg.Named()))
	n.opened("limits", limits.Close)
	return nil
}

// yieldLimits keeps this node's server from leading the stream of limits while its clock is off.
func (n *Node) yieldLimits() {
	if n.nats == nil {
		return
	}
	if err := n.nats.YieldStream(limit.StreamName(meshPrefix(n.opts.Config.Mesh))); err != nil {
		n.log.Warn("the stream of limits stays with this node, whose clock is off", "cause", err)
	}
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

// liveNodes is how many nodes may hold permits. One that can't see the others yet, or any more, asks all the same.
func (n *Node) liveNodes() int {
	const others = 2
	members := n.members.Load()
	if members == nil {
		return others
	}
	return max(len(members.Alive("edge")), others)
}

// useLimits begins to use the store as soon as there is a limit.
func (n *Node) useLimits(ctx context.Context) error {
	if len(n.limits.Rules()) == 0 {
		return nil
	}
	if err := n.limits.Open(ctx); err != nil {
		return fmt.Errorf("open limits: %w", err)
	}
	return nil
}

// awaitLimits lets the store come up before requests need it, where that takes moments: alone, and in a cluster that
// has formed. While one forms, at the start, readyz tells.
func (n *Node) awaitLimits(ctx context.Context) error {
	if err := n.useLimits(ctx); err != nil {
		return err
	}
	if formed := n.nats != nil && n.nats.Store() == natsserver.StoreCurrent; len(n.limits.Rules()) > 0 &&
		(formed || n.edgePeers() == nil) {
		ctx, cancel := context.WithTimeout(ctx, cacheWait)
		defer cancel()
		_ = n.limits.Await(ctx) // without it store_away says what happens
	}
	return nil
}

// Limits gives the node's limiter, for Go programs that have limits of their own: Rule gives one of the configuration
// by name. Nil before Open.
func (n *Node) Limits() *limit.Limiter { return n.limits }

// LimitStats gives what the limiter holds and has done, and the counts of every limit.
func (n *Node) LimitStats() (limit.Stats, []limit.RuleStats) {
	var rules []limit.RuleStats
	for _, r := range n.limits.Rules() {
		rules = append(rules, r.Stats())
	}
	return n.limits.Stats(), rules
}

// LimitUsage says what is known of a client's key, for one limit or for all.
func (n *Node) LimitUsage(ctx context.Context, name, key string) ([]admin.LimitUsage, error) {
	rules, err := n.rulesNamed(name, key)
	if err != nil {
		return nil, err
	}
	out := []admin.LimitUsage{}
	for _, r := range rules {
		u, err := r.Usage(ctx, clientKey(r, key))
		if err != nil {
			return nil, fmt.Errorf("limit %s: %w", r.Name, err)
		}
		usage := admin.LimitUsage{Limit: r.Name, Key: key, Max: u.Limit, Spent: u.Spent, Held: u.Held}
		if !u.Resets.IsZero() {
			usage.Resets = &u.Resets
		}
		out = append(out, usage)
	}
	return out, nil
}

// ResetLimit makes it as if a client's key had asked for nothing, for one limit or for all.
func (n *Node) ResetLimit(ctx context.Context, name, key string) ([]string, error) {
	rules, err := n.rulesNamed(name, key)
	if err != nil {
		return nil, err
	}
	out := []string{}
	for _, r := range rules {
		if err := r.Reset(ctx, clientKey(r, key)); err != nil {
			return out, fmt.Errorf("limit %s: %w", r.Name, err)
		}
		out = append(out, r.Name)
		n.record("limit-reset", r.Name)
	}
	return out, nil
}

// allClients names the key of limits that count every request together.
const allClients = string(node.KeyAll)

// rulesNamed lists the rule of a name, or without one all that tell clients apart. Those that don't are asked for as
// all: what is meant for one client must not reset what all share.
func (n *Node) rulesNamed(name, key string) ([]*limit.Rule, error) {
	if name == "" {
		return slices.DeleteFunc(n.limits.Rules(), func(r *limit.Rule) bool {
			return countsBy(r, node.KeyAll) != (key == allClients)
		}), nil
	}
	r := n.limits.Rule(name)
	if r == nil {
		return nil, fmt.Errorf("%w %q", admin.ErrNoLimit, name)
	}
	return []*limit.Rule{r}, nil
}

func countsBy(r *limit.Rule, kind node.KeyKind) bool {
	return len(r.Limit.Key) == 1 && r.Limit.Key[0].Kind == kind
}

// limitsAPI is the limiter as members see it.
type limitsAPI struct{ *limit.Limiter }

// Key gives the key of a client by any of its names.
func (limitsAPI) Key(r *limit.Rule, client string) limit.Key { return clientKey(r, client) }

// clientKey gives the key of a client by any of its names: limits that count by address take an IPv6 address for its
// network, as the edge does.
func clientKey(r *limit.Rule, name string) limit.Key {
	addr, err := netip.ParseAddr(name)
	switch {
	case countsBy(r, node.KeyAll):
		return r.Key(nil)
	case err == nil && countsBy(r, node.KeyIP):
		return r.Key(r.Limit.AppendAddress(nil, addr))
	}
	return r.Key([]byte(name))
}
