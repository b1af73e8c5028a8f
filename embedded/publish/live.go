package publish

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"millrace/edge/admin"
	"millrace/kvcache/deploy"
	"millrace/node"
)

// change posts a change. Its answer is JSON values one after another: how far nodes are, and last what was done.
func (c *Client) change(
	ctx context.Context, path string, req admin.SiteChange, heard func(NodeState),
) (*Published, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return nil, fmt.Errorf("write the request: %w", err)
	}
	resp, err := c.send(ctx, http.MethodPost, path, "application/json", bytes.NewReader(body), int64(len(body)))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() // it was read only
	done, err := readChange(io.LimitReader(resp.Body, maxAnswer), heard)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, err
	}
	return done, nil
}

// readChange reads the answer to a change. One that ends without what was done is ErrUnreachable: it isn't known.
func readChange(from io.Reader, heard func(NodeState)) (*Published, error) {
	in := json.NewDecoder(from)
	for {
		var text json.RawMessage
		if err := in.Decode(&text); err != nil {
			if _, ok := errors.AsType[*json.SyntaxError](err); ok {
				return nil, fmt.Errorf("read the node's answer: %w", err)
			}
			return nil, fmt.Errorf("%w: its answer ended early: %w", ErrUnreachable, err)
		}
		var n NodeState
		if err := json.Unmarshal(text, &n); err != nil {
			return nil, fmt.Errorf("read the node's answer: %w", err)
		}
		if n.Node != "" {
			heard(n)
			continue
		}
		done, no := new(Published), new(refusal)
		if err := errors.Join(json.Unmarshal(text, done), json.Unmarshal(text, no)); err != nil {
			return nil, fmt.Errorf("read the node's answer: %w", err)
		}
		if no.Text != "" {
			return nil, no
		}
		return done, nil
	}
}

// Rollback makes an earlier deploy live again: that with the id, or with a zero id the one before.
func (c *Client) Rollback(ctx context.Context, site string, id node.Digest, by, message string) (*Published, error) {
	req := admin.SiteChange{By: by, Message: message}
	if id != (node.Digest{}) {
		req.ID = &id
	}
	return c.change(ctx, sitePath(site, "/rollback"), req, func(NodeState) {})
}

// Promote makes the deploy of a preview live.
func (c *Client) Promote(ctx context.Context, site, preview, by, message string) (*Published, error) {
	req := admin.SiteChange{Preview: preview, By: by, Message: message}
	return c.change(ctx, sitePath(site, "/promote"), req, func(NodeState) {})
}

// flip makes a deploy live. If the answer gets lost it looks what became of it, and asks again if nothing did.
func (c *Client) flip(
	ctx context.Context, r Request, id, expected node.Digest, heard func(NodeState),
) (*Published, error) {
	req := admin.SiteChange{ID: &id, Preview: r.Preview, Message: r.Message, By: r.By}
	if r.WaitAll {
		req.Wait = admin.WaitAll
	}
	if r.Preview != "" && r.Until > 0 {
		req.Until = time.Now().Add(r.Until)
	}
	if r.Preview == "" {
		wanted := showID(expected)
		req.IfLive = &wanted
	}
	var done *Published
	lost := false // an answer
	err := c.patiently(ctx, func() (err error) {
		if lost && r.Preview == "" {
			if done, err = c.became(ctx, r.Site, id, expected); done != nil || err != nil {
				return err
			}
		}
		done, err = c.change(ctx, sitePath(r.Site, "/live"), req, heard)
		lost = errors.Is(err, ErrUnreachable)
		return err
	})
	return done, err
}

// became returns what was done if the deploy is live, else nil.
func (c *Client) became(ctx context.Context, site string, id, was node.Digest) (*Published, error) {
	now, err := c.Site(ctx, site)
	if errors.Is(err, ErrNotFound) {
		return nil, nil //nolint:nilnil // nothing was done
	}
	if err != nil || now.Live != id {
		return nil, err
	}
	done := &Published{Published: deploy.Published{Live: id, Was: was}}
	for _, n := range now.Nodes {
		if n.State != deploy.NodeReady {
			done.Behind = append(done.Behind, n.Node)
		}
	}
	return done, nil
}

// showID writes an id as the API does; "" is none.
func showID(id node.Digest) string {
	if id == (node.Digest{}) {
		return ""
	}
	return id.String()
}
