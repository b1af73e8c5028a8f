package publish

import (
	"context"

	"millrace/node/site"
)

// Diff is the difference of two deploys. Paths are sorted.
type Diff struct {
	New     []string `json:"new,omitempty"`
	Changed []string `json:"changed,omitempty"`
	Gone    []string `json:"gone,omitempty"`
}

// Compare returns what changes from one deploy to another. from is nil if there is none.
func Compare(from, to *site.Manifest) Diff {
	if from == nil {
		from = new(site.Manifest)
	}
	var d Diff
	for path, file := range to.Files {
		if old, ok := from.Files[path]; !ok {
			d.New = append(d.New, path)
		} else if old.Digest != file.Digest {
			d.Changed = append(d.Changed, path)
		}
	}
	for path := range from.Files {
		if _, ok := to.Files[path]; !ok {
			d.Gone = append(d.Gone, path)
		}
	}
	return d
}

// DiffFolder compares the live deploy of a site with the folder.
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
