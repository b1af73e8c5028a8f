package embedded

import (
	"context"
	"fmt"
	"net"
	"strings"

	"millrace/edge"
	"millrace/edge/admin"
	"millrace/kvcache"
	"millrace/node"
)

// purgesOf says what an operator's purge means to the cache.
func (n *Node) purgesOf(ctx context.Context, req admin.Purge) (out []kvcache.Purge, err error) {
	switch {
	case !req.Valid():
		return nil, fmt.Errorf("%w: exactly one thing must be named", admin.ErrPurge)
	case strings.HasPrefix(req.URL, "/"):
		out = n.edge.PathPurges(ctx, req.URL, req.Soft)
	case req.URL != "":
		out = n.edge.URLPurges(ctx, req.URL, req.Soft)
	case req.Prefix != "":
		out = edge.PrefixPurges(req.Prefix, req.Soft)
	case req.Host != "":
		var host node.Host
		name, _, err := net.SplitHostPort(req.Host)
		if err != nil { // it has no port, as keys of hosts haven't
			name = req.Host
		}
		if err := host.UnmarshalText([]byte(name)); err != nil {
			return nil, fmt.Errorf("%w: %w", admin.ErrPurge, err)
		}
		return []kvcache.Purge{{Reach: kvcache.ReachHost, Text: string(host), Soft: req.Soft}}, nil
	case req.Tag != "":
		return []kvcache.Purge{{Reach: kvcache.ReachTag, Text: req.Tag, Soft: req.Soft}}, nil
	default:
		return []kvcache.Purge{{Reach: kvcache.ReachAll, Soft: req.Soft}}, nil
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: %s is neither a path, such as /items/7, nor a URL, such as http://shop.example/items/7",
			admin.ErrPurge, admin.Show(req.URL+req.Prefix))
	}
	return out, nil
}
