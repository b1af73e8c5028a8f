package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"millrace/edge/admin"
	edgecache "millrace/edge/cache"
	"millrace/kvcache"
	"millrace/node"
)

// purges executes the operator's purges. It implements admin.Purger.
type purges struct {
	cfg     *node.Config
	state   *stateFile
	cache   *cache
	edge    *edgeServer
	storage *storage
}

// Purge makes stored responses invalid or, if req.Soft is set, stale.
func (p *purges) Purge(ctx context.Context, req admin.Purge) (admin.Purged, error) {
	purges, err := p.purgesOf(ctx, req)
	if err != nil {
		return admin.Purged{}, err
	}
	begun := time.Now()
	if err := p.cache.kv.Open(ctx); err != nil { // other nodes may cache even if this one doesn't
		return admin.Purged{}, err
	}
	done, err := p.cache.kv.Purge(ctx, purges, req.Wait == admin.WaitAll)
	if err != nil {
		return admin.Purged{}, p.advise(err)
	}
	out := admin.Purged{Sequence: done.Sequence, TookMS: float64(time.Since(begun).Microseconds()) / 1000}
	for _, node := range done.Nodes {
		out.Nodes = append(out.Nodes, admin.PurgedNode{
			Node: node.Name, ID: node.Node, State: string(node.State),
			AfterMS: float64(node.After.Microseconds()) / 1000,
		})
	}
	p.state.record("purge", fmt.Sprintf("%s, sequence %d", req, done.Sequence))
	return out, nil
}

// advise adds to the error of a purge whether the purge counts, and what to do.
func (p *purges) advise(err error) error {
	data := p.cfg.Node.Data
	switch {
	case errors.Is(err, kvcache.ErrUnnoted):
		return fmt.Errorf("%w: should the log of purges be damaged, what it reaches could come back: "+
			"make room on the disk of %s, and purge again", err, data)
	case errors.Is(err, kvcache.ErrAway) && p.storage.full():
		return fmt.Errorf("%w: the purge isn't known to be written: the disk of %s is full: "+
			"make room, and purge again", err, data)
	case errors.Is(err, kvcache.ErrAway):
		return fmt.Errorf("%w: the purge isn't known to be written: try again when JetStream is current", err)
	}
	return err
}

// purgesOf translates an operator's purge into those of the cache.
func (p *purges) purgesOf(ctx context.Context, req admin.Purge) ([]kvcache.Purge, error) {
	switch {
	case !req.Valid():
		return nil, fmt.Errorf("%w: exactly one thing must be named", admin.ErrPurge)
	case req.URL+req.Prefix != "":
		return p.targetPurges(ctx, req)
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

// targetPurges translates a purge of a path, a URL or a prefix.
func (p *purges) targetPurges(ctx context.Context, req admin.Purge) (out []kvcache.Purge, err error) {
	target, err := edgecache.PurgeTarget(req.URL + req.Prefix)
	switch {
	case err != nil:
	case req.Prefix != "":
		out = edgecache.PrefixPurges(target, req.Soft)
	case strings.HasPrefix(target, "/"):
		out = p.edge.server.PathPurges(ctx, target, req.Soft)
	default:
		out = p.edge.server.URLPurges(ctx, target, req.Soft)
	}
	if err == nil && len(out) == 0 { // every target that PurgeTarget accepts has purges
		err = errors.New("no client can ask for it")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", admin.ErrPurge, admin.Show(req.URL+req.Prefix), err)
	}
	return out, nil
}

// purgedHost parses a host that may have a scheme or a port, which cache keys of hosts don't have.
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
