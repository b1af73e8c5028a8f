package publish

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"millrace/edge/admin"
	"millrace/node"
)

// The reasons why a node does not do what it is asked. Errors of Client's methods are one of these, ErrChanged,
// ErrFolder, or that of the context; or else the node's own words.
var (
	ErrUnreachable = errors.New("node is not reachable")
	ErrDenied      = errors.New("the token may not do this")
	ErrNotFound    = errors.New("there is no such site or deploy")
	ErrNotReady    = errors.New("not every node has the deploy")
	ErrLostRace    = errors.New("another deploy is live than was expected")
)

// RaceError says which deploy is live instead of the one that was expected; zero is none. It is ErrLostRace.
type RaceError struct{ Live, Wanted node.Digest }

// Error names both deploys.
func (e *RaceError) Error() string {
	return fmt.Sprintf("%s: %s is live, and %s was expected; look at it, and publish again", ErrLostRace,
		orNone(e.Live), orNone(e.Wanted))
}

// Unwrap returns ErrLostRace.
func (*RaceError) Unwrap() error { return ErrLostRace }

func orNone(id node.Digest) string {
	if id == (node.Digest{}) {
		return "none"
	}
	return id.String()
}

// refusal is an answer that says no.
type refusal struct {
	status int

	Text   string      `json:"error"`
	Code   string      `json:"code"`
	Live   node.Digest `json:"live"`
	Wanted node.Digest `json:"wanted"`
}

// Error returns what the node says.
func (r *refusal) Error() string { return r.Text }

// Unwrap returns the error that the answer stands for, if there is one.
func (r *refusal) Unwrap() error {
	switch {
	case r.Code == admin.CodeLostRace:
		return &RaceError{r.Live, r.Wanted}
	case r.Code == admin.CodeNotReady:
		return ErrNotReady
	case r.status == http.StatusUnauthorized, r.status == http.StatusForbidden:
		return ErrDenied
	case r.status == http.StatusNotFound:
		return ErrNotFound
	}
	return nil
}

// again reports whether the same request may succeed later.
func again(err error) bool {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.status == http.StatusTooManyRequests || r.status == http.StatusBadGateway ||
			r.status == http.StatusServiceUnavailable || r.status == http.StatusGatewayTimeout
	}
	return errors.Is(err, ErrUnreachable)
}

// goesOn reports whether files that couldn't be sent may be asked for and sent again: also to a node that hasn't heard
// of them, because it was started anew or is another one than before.
func goesOn(err error) bool {
	r, ok := errors.AsType[*refusal](err)
	return again(err) || (ok && r.status == http.StatusBadRequest)
}

// sitePath returns the path of a site's part of the API.
func sitePath(site, rest string) string { return "/v1/sites/" + url.PathEscape(site) + rest }

// send sends a request. The response has status 200; the caller closes its body.
func (c *Client) send(
	ctx context.Context, method, path, contentType string, body io.Reader, size int64,
) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", c.base, err)
	}
	req.ContentLength = size
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	switch {
	case ctx.Err() != nil:
		return nil, errors.Join(ctx.Err(), drop(resp))
	case err != nil:
		return nil, fmt.Errorf("%w at %s: %w", ErrUnreachable, c.base, err)
	case resp.StatusCode == http.StatusOK:
		return resp, nil
	}
	defer resp.Body.Close() // it was read only
	return nil, c.refused(resp)
}

func drop(resp *http.Response) error {
	if resp == nil {
		return nil
	}
	return resp.Body.Close()
}

// refused reads why a node says no.
func (c *Client) refused(resp *http.Response) error {
	r := &refusal{status: resp.StatusCode}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // what couldn't be read isn't JSON either
	if to := resp.Header.Get("Location"); to != "" && resp.StatusCode < 400 {
		r.Text = fmt.Sprintf("%s answers with a redirect: the admin API may be at %s", c.base, to)
	} else if json.Unmarshal(text, r) != nil || r.Text == "" {
		r.Text = fmt.Sprintf("%s answers %s: is that the admin API?", c.base, resp.Status)
	}
	return r
}

// maxAnswer bounds an answer, in bytes: the digests of all blobs of the largest folder fit in.
const maxAnswer = 128 << 20

// ask sends a request and returns the answer. With v it is JSON, and is decoded into v too.
func (c *Client) ask(ctx context.Context, method, path string, body []byte, v any) (raw []byte, err error) {
	contentType := ""
	if body != nil {
		contentType = "application/json"
	}
	resp, err := c.send(ctx, method, path, contentType, bytes.NewReader(body), int64(len(body)))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() // it was read only
	raw, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, fmt.Errorf("%w at %s: read the answer: %w", ErrUnreachable, c.base, err)
	case v == nil:
		return raw, nil
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return nil, fmt.Errorf("read the node's answer: %w", err)
	}
	return raw, nil
}

// patiently calls f until it succeeds, or fails for a reason that won't go away, or has failed a few times.
func (c *Client) patiently(ctx context.Context, f func() error) error {
	for n := 1; ; n++ {
		err := f()
		if err == nil || !again(err) || n == attempts {
			return err
		}
		if err := c.wait(ctx, n); err != nil {
			return err
		}
	}
}

// attempts is how often something is tried in a row that brings nothing forward.
const attempts = 8

// posted is the answer to a manifest.
type posted struct {
	ID      node.Digest   `json:"id"`
	Missing []node.Digest `json:"missing"`
	Live    node.Digest   `json:"live"`
}

// post sends a manifest and returns which blobs the mesh lacks.
func (c *Client) post(ctx context.Context, site string, manifest []byte) (p posted, err error) {
	err = c.patiently(ctx, func() error {
		p = posted{}
		_, err := c.ask(ctx, http.MethodPost, sitePath(site, "/deploys"), manifest, &p)
		return err
	})
	if err == nil && p.ID != node.DigestOf(manifest) {
		err = fmt.Errorf("the node says that the deploy is %s, and it is %s", p.ID, node.DigestOf(manifest))
	}
	return p, err
}
