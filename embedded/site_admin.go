package embedded

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"

	"millrace/edge/admin"
	edgesite "millrace/edge/site"
	"millrace/kvcache/deploy"
	"millrace/node"
)

// siteAdmin answers the pages of sites. It implements admin.Sites.
type siteAdmin struct {
	sites *sites
	edge  *edgeServer
}

var _ admin.Sites = siteAdmin{}

// SiteToken returns the token of a site; empty if it has none.
func (a siteAdmin) SiteToken(name string) string {
	return a.sites.applied.Load().Sites.Named[name].Token
}

// errLeaf is why a leaf changes no site.
var errLeaf = fmt.Errorf("%w: this node is a leaf: ask a node of its hub", admin.ErrNotHere)

// changeSite calls f unless this node is a leaf.
func changeSite[T any](a siteAdmin, f func() (T, error)) (out T, err error) {
	if a.sites.cfg.Mesh.Leaf != nil {
		return out, errLeaf
	}
	return f()
}

// Begin implements admin.Sites.
func (a siteAdmin) Begin(ctx context.Context, name string, manifest []byte) (*deploy.Begun, error) {
	return changeSite(a, func() (*deploy.Begun, error) { return a.sites.kv.Begin(ctx, name, manifest) })
}

// Upload implements admin.Sites.
func (a siteAdmin) Upload(name string) admin.BlobUpload { return a.sites.kv.Upload(name) }

// Publish implements admin.Sites.
func (a siteAdmin) Publish(
	ctx context.Context, name string, p deploy.Publication, each func(*deploy.Answer),
) (*deploy.Published, error) {
	return changeSite(a, func() (*deploy.Published, error) { return a.sites.kv.Publish(ctx, name, p, each) })
}

// Rollback implements admin.Sites.
func (a siteAdmin) Rollback(
	ctx context.Context, name string, id node.Digest, by, message string,
) (*deploy.Published, error) {
	return changeSite(a, func() (*deploy.Published, error) {
		return a.sites.kv.Rollback(ctx, name, id, by, message)
	})
}

// Promote implements admin.Sites.
func (a siteAdmin) Promote(ctx context.Context, name, preview, by, message string) (*deploy.Published, error) {
	return changeSite(a, func() (*deploy.Published, error) {
		return a.sites.kv.Promote(ctx, name, preview, by, message)
	})
}

// Delete implements admin.Sites.
func (a siteAdmin) Delete(ctx context.Context, name, by string) (*deploy.Published, error) {
	return changeSite(a, func() (*deploy.Published, error) { return a.sites.kv.Delete(ctx, name, by) })
}

// List implements admin.Sites.
func (a siteAdmin) List(ctx context.Context) ([]deploy.Summary, error) { return a.sites.kv.List(ctx) }

// Show implements admin.Sites.
func (a siteAdmin) Show(ctx context.Context, name string) (*deploy.Summary, error) {
	return a.sites.kv.Show(ctx, name)
}

// Manifest implements admin.Sites.
func (a siteAdmin) Manifest(ctx context.Context, name string, id node.Digest) ([]byte, error) {
	return a.sites.kv.Manifest(ctx, name, id)
}

// URL returns where clients find a site, or a preview of it; empty if no route says so.
func (a siteAdmin) URL(name, preview string, id node.Digest) string {
	cfg, server := a.sites.applied.Load(), a.edge.server
	if server == nil {
		return ""
	}
	_, port, _ := net.SplitHostPort(server.Addr().String())
	if port = ":" + port; port == ":80" {
		port = ""
	}
	if preview != "" {
		host := edgesite.PreviewHost(cfg.Sites.Named[name].Preview, preview, id)
		if host == "" {
			return ""
		}
		return "http://" + host + port + "/"
	}
	for i := range cfg.Routes {
		r := &cfg.Routes[i]
		if !slices.Contains(r.Sites(), name) {
			continue
		}
		path := strings.TrimSuffix(r.Path.String(), "*")
		if r.Host == "" {
			return a.edge.url() + path
		}
		return "http://" + string(r.Host) + port + path
	}
	return ""
}
