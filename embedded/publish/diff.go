package publish

import (
	"context"

	"millrace/node/site"
)

// Diff is what one deploy has other than another, as site.Difference has it. The lists are sorted.
type Diff struct {
	Added          []string `json:"added,omitempty"` // paths
	Changed        []string `json:"changed,omitempty"`
	Gone           []string `json:"gone,omitempty"`
	HeadersAdded   []string `json:"headers_added,omitempty"` // lines
	HeadersGone    []string `json:"headers_gone,omitempty"`
	RedirectsAdded []string `json:"redirects_added,omitempty"`
	RedirectsGone  []string `json:"redirects_gone,omitempty"`
	HeadersMoved   bool     `json:"headers_moved,omitempty"` // the rules that stay have another order
	RedirectsMoved bool     `json:"redirects_moved,omitempty"`
}

// Compare returns what a deploy has other than another. from is nil if there is none.
func Compare(from, to *site.Manifest) Diff {
	if from == nil {
		from = new(site.Manifest)
	}
	return Diff(site.Diff(from, to))
}

// Empty reports whether there is no difference.
func (d *Diff) Empty() bool { return (*site.Difference)(d).Empty() }

// DiffFolder compares what is live on a site with the folder.
func (c *Client) DiffFolder(ctx context.Context, f *Folder, name string) (Diff, error) {
	if err := f.Err(); err != nil {
		return Diff{}, err
	}
	_, m, err := c.live(ctx, name)
	if err != nil {
		return Diff{}, err
	}
	return Compare(m, f.Manifest()), nil
}

// DiffDeploys compares two deploys of a site, named by their ids or the first digits of them.
func (c *Client) DiffDeploys(ctx context.Context, name, from, to string) (Diff, error) {
	var m [2]*site.Manifest
	for i, digits := range []string{from, to} {
		id, err := c.Resolve(ctx, name, digits)
		if err != nil {
			return Diff{}, err
		}
		if m[i], err = c.Manifest(ctx, name, id); err != nil {
			return Diff{}, err
		}
	}
	return Compare(m[0], m[1]), nil
}
