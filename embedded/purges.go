package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"millrace/edge"
	"millrace/edge/admin"
	"millrace/kvcache"
	"millrace/node"
)

// purgesOf says what an operator's purge means to the cache.
func (n *Node) purgesOf(ctx context.Context, req admin.Purge) ([]kvcache.Purge, error) {
	switch {
	case !req.Valid():
		return nil, fmt.Errorf("%w: exactly one thing must be named", admin.ErrPurge)
	case req.URL+req.Prefix != "":
		return n.targetPurges(ctx, req)
	case req.Host != "":
		host, err := purgedHost(req.Host)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", admin.ErrPurge, err)
		}
		return []kvcache.Purge{{Reach: kvcache.ReachHost, Text: string(host), Soft: req.Soft}}, nil
	case req.Tag != "":
		return []kvcache.Purge{{Reach: kvcache.ReachTag, Text: req.Tag, Soft: req.Soft}}, nil
	default:
		return []kvcache.Purge{{Reach: kvcache.ReachAll, Soft: req.Soft}}, nil
	}
}

// targetPurges says what a purge of a path, a URL or a prefix means to the cache.
func (n *Node) targetPurges(ctx context.Context, req admin.Purge) (out []kvcache.Purge, err error) {
	target, err := edge.PurgeTarget(req.URL + req.Prefix)
	switch {
	case err != nil:
	case req.Prefix != "":
		out = edge.PrefixPurges(target, req.Soft)
	case strings.HasPrefix(target, "/"):
		out = n.edge.PathPurges(ctx, target, req.Soft)
	default:
		out = n.edge.URLPurges(ctx, target, req.Soft)
	}
	if err == nil && len(out) == 0 { // PurgeTarget gives what has purges
		err = errors.New("no client can ask for it")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", admin.ErrPurge, admin.Show(req.URL+req.Prefix), err)
	}
	return out, nil
}

// purgedHost reads a host as people write it: with a port or a scheme, which keys of hosts haven't, or without.
func purgedHost(s string) (host node.Host, err error) {
	name := s
	if scheme, rest, ok := strings.Cut(s, "://"); ok &&
		(strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https")) {
		name = rest
	}
	name, path, _ := strings.Cut(name, "/")
	switch {
	case path != "":
		return "", fmt.Errorf("%s is more than a host: purge the URL, or what begins so by a prefix (--prefix %[1]s)",
			admin.Show(s))
	case strings.Contains(name, "*"):
		return "", fmt.Errorf("%s has a *, and a purge has no wildcards: name each host, or purge all", admin.Show(s))
	}
	if bare, _, err := net.SplitHostPort(name); err == nil {
		name = bare
	}
	err = host.UnmarshalText([]byte(name))
	return host, err
}
