package publish

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"millrace/node"
	"millrace/node/site"
)

// Sites returns all sites, and the answer as received.
func (c *Client) Sites(ctx context.Context) (sites []Summary, raw []byte, err error) {
	raw, err = c.ask(ctx, http.MethodGet, "/v1/sites", nil, &sites)
	return sites, raw, err
}

// Site returns one site. The error is ErrNotFound if nothing was published to it.
func (c *Client) Site(ctx context.Context, name string) (*Summary, error) {
	s, _, err := c.SiteRaw(ctx, name)
	return &s.Summary, err
}

// SiteRaw returns one site with its URLs, and the answer as received. The site is never nil.
func (c *Client) SiteRaw(ctx context.Context, name string) (s *Shown, raw []byte, err error) {
	s = new(Shown)
	raw, err = c.ask(ctx, http.MethodGet, sitePath(name, ""), nil, s)
	return s, raw, err
}

// Delete removes a site with all its deploys and previews.
func (c *Client) Delete(ctx context.Context, name string) (done *Published, raw []byte, err error) {
	done = new(Published)
	raw, err = c.ask(ctx, http.MethodDelete, sitePath(name, ""), nil, done)
	return done, raw, err
}

// Manifest returns the manifest of a deploy, checked against its id.
func (c *Client) Manifest(ctx context.Context, name string, id node.Digest) (*site.Manifest, error) {
	raw, err := c.ask(ctx, http.MethodGet, sitePath(name, "/deploys/"+id.String()), nil, nil)
	if err != nil {
		return nil, fmt.Errorf("fetch deploy %s: %w", id, err)
	}
	if node.DigestOf(raw) != id {
		return nil, fmt.Errorf("fetch deploy %s: the node sent something else", id)
	}
	m, err := site.Decode(raw)
	if err != nil {
		return nil, fmt.Errorf("fetch deploy %s: %w", id, err)
	}
	return m, nil
}

// minPrefix is how many digits of an id are enough to name it.
const minPrefix = 6

// Resolve returns the id of the site's deploy that begins with the digits.
func (c *Client) Resolve(ctx context.Context, name, digits string) (node.Digest, error) {
	if id, err := node.ParseDigest(digits); err == nil {
		return id, nil
	}
	if len(digits) < minPrefix {
		return node.Digest{}, fmt.Errorf("%w: %q has fewer than the %d digits that an id needs at least", ErrNotFound,
			digits, minPrefix)
	}
	s, err := c.Site(ctx, name)
	if err != nil {
		return node.Digest{}, err
	}
	found := map[node.Digest]bool{}
	for i := range s.Deploys {
		if id := s.Deploys[i].ID(); strings.HasPrefix(id.String(), digits) {
			found[id] = true
		}
	}
	if len(found) > 1 {
		return node.Digest{}, fmt.Errorf("%w: %d of %s begin with %s", ErrNotFound, len(found), name, digits)
	}
	for id := range found {
		return id, nil
	}
	return node.Digest{}, fmt.Errorf("%w: none of %s begins with %s", ErrNotFound, name, digits)
}

// live returns which deploy is live and its manifest; zero and nil if nothing is.
func (c *Client) live(ctx context.Context, name string) (id node.Digest, m *site.Manifest, err error) {
	s, err := c.Site(ctx, name)
	if errors.Is(err, ErrNotFound) || (err == nil && s.Live == node.Digest{}) {
		return node.Digest{}, nil, nil
	}
	if err != nil {
		return node.Digest{}, nil, err
	}
	m, err = c.Manifest(ctx, name, s.Live)
	return s.Live, m, err
}
