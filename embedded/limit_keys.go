package embedded

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"millrace/edge/admin"
	"millrace/kvcache/limit"
	"millrace/node"
)

// LimitUsage says what is known of a client's key, for one limit or for all.
func (l *limits) LimitUsage(ctx context.Context, name, key string) ([]admin.LimitUsage, error) {
	rules, err := l.rulesNamed(name, key)
	if err != nil {
		return nil, err
	}
	out := []admin.LimitUsage{}
	for _, r := range rules {
		u, err := r.Usage(ctx, l.Key(r, key))
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
func (l *limits) ResetLimit(ctx context.Context, name, key string) ([]string, error) {
	rules, err := l.rulesNamed(name, key)
	if err != nil {
		return nil, err
	}
	out := []string{}
	for _, r := range rules {
		if err := r.Reset(ctx, l.Key(r, key)); err != nil {
			return out, fmt.Errorf("limit %s: %w", r.Name, err)
		}
		out = append(out, r.Name)
		l.state.record("limit-reset", r.Name)
	}
	return out, nil
}

// allClients names the key of limits that count every request together.
const allClients = string(node.KeyAll)

// rulesNamed lists the rule of a name, or without one all that tell clients apart. Those that don't are asked for as
// all: what is meant for one client must not reset what all share.
func (l *limits) rulesNamed(name, key string) ([]*limit.Rule, error) {
	if name == "" {
		return slices.DeleteFunc(l.limiter.Rules(), func(r *limit.Rule) bool {
			return countsBy(r, node.KeyAll) != (key == allClients)
		}), nil
	}
	r := l.limiter.Rule(name)
	if r == nil {
		return nil, fmt.Errorf("%w %q", admin.ErrNoLimit, name)
	}
	return []*limit.Rule{r}, nil
}

func countsBy(r *limit.Rule, kind node.KeyKind) bool {
	return len(r.Limit.Key) == 1 && r.Limit.Key[0].Kind == kind
}

// Rule gives the limit of a name; nil if there is none.
func (l *limits) Rule(name string) *limit.Rule { return l.limiter.Rule(name) }

// Key gives the key of a client by any of its names: limits that count by address take an IPv6 address for its
// network, as the edge does.
func (l *limits) Key(r *limit.Rule, name string) limit.Key {
	addr, err := netip.ParseAddr(name)
	switch {
	case countsBy(r, node.KeyAll):
		return r.Key(nil)
	case err == nil && countsBy(r, node.KeyIP):
		return r.Key(r.Limit.AppendAddress(nil, addr))
	}
	return r.Key([]byte(name))
}
