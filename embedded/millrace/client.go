package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// adminFlags select the node to talk to.
type adminFlags struct {
	configFlag
	Admin string `placeholder:"URL" env:"MILLRACE_ADMIN" help:"Admin API of the node (default: where the node of the file says that it is)."`
	Token string `env:"MILLRACE_ADMIN_TOKEN" help:"Token of the admin API (default: that of the node of the file)."`
}

// call sends a request to the first endpoint that can be reached. The response has status 200; the caller closes its
// body.
func (f adminFlags) call(ctx context.Context, out console, method, path string, body []byte) (*http.Response, error) {
	endpoints, err := f.find(out)
	if err != nil {
		return nil, err
	}
	var unreachable error
	for _, at := range endpoints {
		resp, err := at.ask(ctx, method, path, body)
		if !errors.Is(err, errUnreachable) {
			return resp, err
		}
		unreachable = errors.Join(unreachable, err)
	}
	return nil, fmt.Errorf("%w\n  is it running? name another with --admin or -c", unreachable)
}

// ask sends a request to the endpoint.
func (e endpoint) ask(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, e.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, usageError(fmt.Sprintf("--admin %s: %s", e.url, err))
	}
	if e.token != "" {
		req.Header.Set("Authorization", "Bearer "+e.token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w at %s: %w", errUnreachable, e.url, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	var refusal struct {
		Error string `json:"error"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&refusal); err != nil || refusal.Error == "" {
		return nil, fmt.Errorf("%s answered %s: is that the admin API?", e.url, resp.Status)
	}
	if resp.StatusCode == http.StatusUnprocessableEntity {
		return nil, fmt.Errorf("%w: %s", errInvalidConfig, refusal.Error)
	}
	return nil, errors.New(refusal.Error)
}

// errInvalidConfig means that the node refused its configuration file.
var errInvalidConfig = errors.New("configuration refused")

// get sends a request and decodes the JSON answer into v. raw is the answer as received.
func (f adminFlags) get(ctx context.Context, out console, method, path string, v any) (raw []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return f.ask(ctx, out, method, path, nil, v)
}

// post sends JSON and decodes the answer into v. raw is the answer as received.
func (f adminFlags) post(ctx context.Context, out console, path string, body, v any) (raw []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	b, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("write the request: %w", err)
	}
	return f.ask(ctx, out, http.MethodPost, path, b, v)
}

func (f adminFlags) ask(
	ctx context.Context, out console, method, path string, body []byte, v any,
) (raw []byte, err error) {
	resp, err := f.call(ctx, out, method, path, body)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err = io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err == nil {
		err = json.Unmarshal(raw, v)
	}
	if err != nil {
		return nil, fmt.Errorf("read the node's answer: %w", err)
	}
	return raw, nil
}

// readFlags are the flags of a command that shows one answer of the admin API.
type readFlags struct {
	adminFlags
	JSON bool `help:"Print the answer of the admin API as it is."`
}

// read decodes the answer into v. With --json it prints the answer as received instead; printed reports that.
func (f readFlags) read(ctx context.Context, out console, path string, v any) (printed bool, err error) {
	raw, err := f.get(ctx, out, http.MethodGet, path, v)
	if err == nil && f.JSON {
		_, err = out.stdout.Write(raw)
	}
	return f.JSON, err
}
