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

// LimitUsage returns what is known of a client's key, for the named limit, or for all if name is empty.
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

// ResetLimit deletes what a client's key has used of the named limit, or of all if name is empty. It returns the names
// of the limits.
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

// allClients is the key of limits that count all requests together.
const allClients = string(node.KeyAll)

// rulesNamed returns the rule of a name. Without a name it returns the rules that distinguish clients or, for the key
// allClients, those that don't: a reset for one client must not reset what all share.
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

// Rule returns the limit of a name; nil if there is none.
func (l *limits) Rule(name string) *limit.Rule { return l.limiter.Rule(name) }

// Key returns the key of a client under any of its names. A limit that counts by address uses the network of an IPv6
// address, as the edge does.
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
